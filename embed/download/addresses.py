"""Allow a link to lead only to public network addresses.

`ipaddress` recognises other addresses by the IANA special-purpose registries (RFC
6890).
"""

import asyncio
import ipaddress
import socket

from embed.download.failure import PhotoFailure, shown

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: str) -> bool:
    """Tell whether an address belongs to the public internet.

    Parameters
    ----------
    address : str
        IPv4 or IPv6 address from a resolver.

    Returns
    -------
    bool
        False for loopback, private, link-local, multicast, reserved and unspecified
        addresses, and for IPv6 addresses that embed such an IPv4 address.
    """
    parsed = _innermost(ipaddress.ip_address(address))
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.is_site_local:
        return False
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved)


async def addresses_of(host: str, port: int, *, allow_private: bool) -> list[str]:
    """Resolve a host once, and check every address.

    Parameters
    ----------
    host : str
        Name or address, in any form that a resolver accepts ("2130706433").
    port : int
        Port to connect to.
    allow_private : bool
        Whether to accept addresses that are not public.

    Returns
    -------
    list of str
        At least one address to connect to, best first.

    Raises
    ------
    PhotoFailure
        If the host has no address, or one of them is not public.
    """
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )
    except socket.gaierror as error:
        raise PhotoFailure(
            f"host name not found: {shown(host)} ({error.strerror})",
            retry=error.errno == socket.EAI_AGAIN,
            unreached=True,
        ) from error
    except UnicodeError as error:  # a label of more than 63 characters
        raise PhotoFailure(f"host name not found: {shown(host)}") from error
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    for address in addresses:
        if not allow_private and not is_public(address):
            raise PhotoFailure(
                f"address is not public: {shown(host)} is {address}; --allow-private "
                f"allows it"
            )
    return addresses


def _innermost(address: _Address) -> _Address:
    """Return the IPv4 address that an IPv6 address embeds, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
