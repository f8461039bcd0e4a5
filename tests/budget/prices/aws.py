"""A stand-in for the two services of AWS that tell prices, speaking their wire protocols over HTTP.

EC2: the query protocol, form in, XML out. Price List: JSON 1.1. Both page; both refuse what is not signed.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

PAGE = 5
LINUX = "Linux/UNIX"
_SCOPE = re.compile(r"Credential=[^/]+/\d{8}/([a-z0-9-]+)/(ec2|pricing)/aws4_request")


@dataclass
class Change:
    """The spot price of a machine in a zone since a time."""

    instance_type: str
    zone: str
    price: str
    since: datetime
    product: str = LINUX


@dataclass
class Aws:
    """What the stand-in knows, and what it was asked. `faults`: (service, region, what was asked for) to an error code.

    For EC2 the third is the number of the page, for the Price List the instance type. `talkative`: EC2 tells the whole
    history, newest first, whatever time it is asked about.
    """

    spot: list[Change] = field(default_factory=list)
    on_demand: dict[tuple[str, str], str | list[str]] = field(default_factory=dict)
    faults: dict[tuple[str, str, Any], str] = field(default_factory=dict)
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    url: str = ""
    talkative: bool = False

    def pages(self, service: str) -> int:
        return sum(called == service for called, _, _ in self.calls)


def product(instance_type: str, region: str, price: str = "1.0060000000", *, currency="USD", unit="Hrs") -> str:
    """One entry of the price list, as AWS writes it."""
    rate = {
        "unit": unit,
        "endRange": "Inf",
        "description": f"${price} per On Demand Linux {instance_type} Instance Hour",
        "appliesTo": [],
        "rateCode": "SKU.JRTCKXETXF.6YS6EN2CT7",
        "beginRange": "0",
        "pricePerUnit": {currency: price},
    }
    term = {
        "priceDimensions": {"SKU.JRTCKXETXF.6YS6EN2CT7": rate},
        "sku": "SKU",
        "effectiveDate": "2026-07-01T00:00:00Z",
        "offerTermCode": "JRTCKXETXF",
        "termAttributes": {},
    }
    attributes = {
        "instanceType": instance_type,
        "regionCode": region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "gpuMemory": "24 GB",
        "servicecode": "AmazonEC2",
    }
    return json.dumps(
        {
            "product": {"productFamily": "Compute Instance", "attributes": attributes, "sku": "SKU"},
            "serviceCode": "AmazonEC2",
            "terms": {"OnDemand": {"SKU.JRTCKXETXF": term}, "Reserved": {}},
            "version": "20260701000000",
        }
    )


@contextmanager
def serving() -> Iterator[Aws]:
    """Run the stand-in on loopback."""
    aws = Aws()

    class Handler(_Handler):
        state = aws

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    aws.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield aws
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # a reply in one packet: in two, the second waits 40 ms for the first to be acknowledged
    state: Aws

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        scope = _SCOPE.search(self.headers.get("Authorization", ""))
        region, service = scope.groups() if scope else ("", "")
        if self.headers.get("X-Amz-Target") == "AWSPriceListService.GetProducts":
            self._price_list(json.loads(body), signed=service == "pricing" and region == "us-east-1")
        else:
            self._ec2(dict(parse_qsl(body.decode())), region if service == "ec2" else "")

    def _price_list(self, asked: dict[str, Any], *, signed: bool) -> None:
        fields = {entry["Field"]: entry["Value"] for entry in asked["Filters"]}
        assert {entry["Type"] for entry in asked["Filters"]} == {"TERM_MATCH"}
        region, name = fields["regionCode"], fields["instanceType"]
        self.state.calls.append(("pricing", region, asked | {"fields": fields}))
        fault = self.state.faults.get(("pricing", region, name)) or self.state.faults.get(("pricing", region, "*"))
        if fault or not signed:
            self._send(
                400, "application/x-amz-json-1.1", json.dumps({"__type": fault or "UnrecognizedClientException"})
            )
            return
        known = self.state.on_demand.get((region, name), [])
        products = [product(name, region, known)] if isinstance(known, str) else known
        start = int(asked.get("NextToken", 0))
        # One a page, so that whoever reads only the first page is found out.
        reply: dict[str, Any] = {"FormatVersion": "aws_v1", "PriceList": products[start : start + 1]}
        if start + 1 < len(products):
            reply["NextToken"] = str(start + 1)
        self._send(200, "application/x-amz-json-1.1", json.dumps(reply))

    def _ec2(self, asked: dict[str, str], region: str) -> None:
        assert asked["Action"] == "DescribeSpotPriceHistory"
        start = int(asked.get("NextToken", 0))
        self.state.calls.append(("ec2", region, asked))
        fault = self.state.faults.get(("ec2", region, start // PAGE))
        if fault or not region:
            error = f"<Error><Code>{fault or 'AuthFailure'}</Code><Message>No.</Message></Error>"
            self._send(403, "text/xml", f"<Response><Errors>{error}</Errors><RequestID>1</RequestID></Response>")
            return
        found = self._history(asked, region)
        token = str(start + PAGE) if start + PAGE < len(found) else ""
        items = "".join(_item(change) for change in found[start : start + PAGE])
        self._send(
            200,
            "text/xml;charset=UTF-8",
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<DescribeSpotPriceHistoryResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
            f"<requestId>1</requestId><spotPriceHistorySet>{items}</spotPriceHistorySet>"
            f"<nextToken>{token}</nextToken></DescribeSpotPriceHistoryResponse>",
        )

    def _history(self, asked: dict[str, str], region: str) -> list[Change]:
        """As EC2: the changes within the time asked for, and of each machine the last one before it."""
        start, end = (datetime.fromisoformat(asked[name]) for name in ("StartTime", "EndTime"))
        assert asked["Filter.1.Name"] == "instance-type"
        types = {value for name, value in asked.items() if name.startswith("Filter.1.Value.")}
        products = {value for name, value in asked.items() if name.startswith("ProductDescription.")}
        before: dict[tuple[str, str], Change] = {}
        within = []
        for change in sorted(self.state.spot, key=lambda change: change.since):
            if change.zone.startswith(region) and change.instance_type in types and change.product in products:
                if start < change.since <= end or self.state.talkative:
                    within.append(change)
                elif change.since <= start:
                    before[change.instance_type, change.zone] = change
        return sorted([*before.values(), *within], key=lambda change: change.since, reverse=True)

    def _send(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _item(change: Change) -> str:
    fields = {
        "instanceType": change.instance_type,
        "productDescription": change.product,
        "spotPrice": change.price,
        "timestamp": f"{change.since:%Y-%m-%dT%H:%M:%S.000Z}",
        "availabilityZone": change.zone,
    }
    return f"<item>{''.join(f'<{name}>{escape(value)}</{name}>' for name, value in fields.items())}</item>"
