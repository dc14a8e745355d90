"""The Hosts and Origins that a server accepts.

A web page of a stranger can make a browser send requests to a server on this computer. If the page sends the request
itself (CSRF), the header Origin names the page. If the name of the page's own server was changed to the address of this
computer (DNS rebinding), the header Host contains that name.
"""
import ipaddress

from .limits import Refusal


def is_loopback(address: str) -> bool:
    """Return True if only this computer can reach an address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    return _number(address).is_loopback


def is_every_address(name: str) -> bool:
    """Return True for 0.0.0.0 and ::, which stand for every address of this computer.

    >>> is_every_address("0.0.0.0"), is_every_address("localhost")
    (True, False)
    """
    try:
        return ipaddress.ip_address(name).is_unspecified
    except ValueError:
        return False


def served_hosts(address: str, port: int, name: str) -> set[str]:
    """The values of the header Host that are accepted.

    `address` is the local IP address of the connection. `name` is the host under which the server was started.

    >>> sorted(served_hosts("127.0.0.1", 8000, "127.0.0.1"))
    ['127.0.0.1:8000', 'localhost:8000']
    >>> sorted(served_hosts("::1", 80, "localhost"))
    ['[::1]', '[::1]:80', 'localhost', 'localhost:80']
    >>> served_hosts("10.0.0.7", 8000, "0.0.0.0")
    {'10.0.0.7:8000'}
    """
    names = {host_in_url(str(_number(address)))}
    if is_loopback(address):
        names.add("localhost")
    if not is_every_address(name):
        names.add(host_in_url(name.lower()))
    hosts = {f"{name}:{port}" for name in names}
    return hosts | names if port == 80 else hosts                # 80 is the default port of http


def host_in_url(name: str) -> str:
    """A host as it is written in a URL: an IPv6 address is put into brackets."""
    return f"[{name}]" if ":" in name else name


def check_origin(headers, served: set[str], allowed: set[str]) -> None:
    """Raise Refusal if the Host of a request, or its Origin if it has one, is not an address of this server.

    `headers` are the headers of the request. `served` are the hosts of `served_hosts`, and `allowed` are further hosts.
    """
    hosts = served | allowed
    found = headers.get_all("Host", [])
    if len(found) != 1:
        raise Refusal(400, f"found {len(found)} headers Host; expected one")
    host = found[0].strip().lower()
    if host not in hosts:
        raise Refusal(403, f"the Host is {host!r}, which is not an address of this server; expected one of "
                           f"{', '.join(sorted(hosts))}. The option --allow-host of nphybrid serve adds a host, for "
                           "example behind a port mapping.")
    for origin in headers.get_all("Origin", []):
        # A proxy of an allowed host may add encryption.
        if origin.strip().lower() not in {f"http://{host}", f"{'https' if host in allowed else 'http'}://{host}"}:
            raise Refusal(403, f"the Origin is {origin!r}; expected http://{host}. Pages of other servers may not use "
                               "this server.")


def _number(address):
    """The IP address of a text, without the index of a network card.  An IPv4 address in IPv6 form becomes IPv4."""
    number = ipaddress.ip_address(address.partition("%")[0])
    return getattr(number, "ipv4_mapped", None) or number
