"""The bundled sample: a drawn catalog whose law of price is known."""
