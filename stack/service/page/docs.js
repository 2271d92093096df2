"use strict";

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function resolve(api, schema) {
  if (!schema.$ref) return schema;
  return api.components.schemas[schema.$ref.split("/").pop()];
}

function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  return schema.format || schema.type || (schema.enum || []).join(" or ");
}

function fields(api, schema) {
  const list = element("dl");
  const { properties = {}, required = [] } = resolve(api, schema);
  for (const [name, field] of Object.entries(properties)) {
    const needed = required.includes(name) ? ", required" : "";
    list.append(element("dt", "", element("code", name),
      ` ${typeOf(field)}${needed}`));
    if (field.description) list.append(element("dd", field.description));
  }
  return list;
}

function endpoint(api, path, method, operation) {
  const section = element("section", "",
    element("h2", `${method.toUpperCase()} ${path}`),
    element("p", operation.description || operation.summary));
  for (const parameter of operation.parameters || []) {
    section.append(element("p", "", element("code", `?${parameter.name}`),
      ` ${typeOf(parameter.schema)}: ${parameter.description || ""}`));
  }
  const content = (operation.requestBody || {}).content || {};
  for (const [kind, { schema }] of Object.entries(content)) {
    section.append(element("h3", `Send ${kind}`), fields(api, schema));
  }
  const answers = element("dl");
  for (const [status, answer] of Object.entries(operation.responses)) {
    const kinds = Object.values(answer.content || {}).map((body) => typeOf(body.schema));
    answers.append(element("dt", "", element("code", status), ` ${kinds.join(" or ")}`),
      element("dd", answer.description));
  }
  section.append(element("h3", "Answers"), answers);
  return section;
}

function model(api, name) {
  return element("section", "", element("h2", name),
    element("p", api.components.schemas[name].description || ""),
    fields(api, api.components.schemas[name]));
}

function show(api) {
  const sections = [];
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      sections.push(endpoint(api, path, method, operation));
    }
  }
  for (const name of Object.keys(api.components.schemas)) sections.push(model(api, name));
  document.getElementById("endpoints").replaceChildren(...sections);
}

async function read() {
  const reading = document.getElementById("reading");
  try {
    show(await (await fetch("openapi.json")).json());
    reading.textContent = "";
  } catch {
    reading.className = "error";
    reading.textContent = "The description cannot be read. Is the service still "
      + "running? If so, load this page again.";
  }
}

read();
