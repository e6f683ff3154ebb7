"""The endpoints: a path of the API for each order, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from mirror.admin.messages import (
    BudgetOrder,
    Collected,
    ConfigOrder,
    Configuration,
    DoctorOrder,
    DuOrder,
    ErrorsOrder,
    Examined,
    Exported,
    ExportOrder,
    Fetches,
    FetchesOrder,
    GcOrder,
    History,
    HistoryOrder,
    Imported,
    ImportOrder,
    LsOrder,
    Pinned,
    PinOrder,
    Purged,
    PurgeOrder,
    RecentRequests,
    Refreshed,
    RefreshOrder,
    Reloaded,
    ReloadOrder,
    ShownImage,
    ShowOrder,
    Status,
    StatusOrder,
    StoredImages,
    Top,
    TopOrder,
    UnpinOrder,
    Usage,
    Verified,
    VerifyOrder,
    Warmed,
    WarmOrder,
    Work,
)
from mirror.budget.summary import Budgets
from mirror.console.api.query import as_order, single
from mirror.console.discretion import PUBLIC

_TARGETS = ("target", "targets", "images")
PAGE = "100"  # rows of a list, unless `limit` says another number


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path.

    `path` may have `{image}`, which becomes the `target` of the order, or the only one of its
    `targets` or `images`. The other fields of the order are parameters: of the query, or members
    of the `body`; under other names where `names` has one, and with `defaults`. `result` is the
    order's last record; a `paged` one is a page of a list, with the name of its last row in
    `after` if there are more. A `stream` answers with all records of the order, one on each line,
    an `archive` with the content among them. `repeated` are the names of parameters that may be
    given several times, `fixed` the fields of the order that the path decides.
    The body of a request that `takes_archive` is an archive.
    A `guarded` one is for operators alone, and no link of another site leads to it.
    """

    method: str
    path: str
    summary: str
    order: type[Any]
    result: type[Any]
    names: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, object] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()
    body: bool = False
    stream: bool = False
    archive: bool = False
    takes_archive: bool = False
    paged: bool = False
    guarded: bool = False

    @property
    def acts(self) -> bool:
        """Whether it changes something."""
        return self.method == "POST"

    @property
    def public(self) -> bool:
        """Whether viewers that may not see names get the result without them."""
        return not self.acts and self.result in PUBLIC

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters, each with its field of the order."""
        known = {self.names.get(each.name, each.name): each.name for each in fields(self.order)}
        taken = {"kind", *self.fixed, *(_TARGETS if "{image}" in self.path else ())}
        return {name: each for name, each in known.items() if each not in taken}

    def values(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        """Return the values in a query; raises Problem for a parameter that is given twice."""
        once = {name: values for name, values in query.items() if name not in self.repeated}
        lists = {name: values for name, values in query.items() if name in self.repeated}
        return {**single(once), **lists}

    def read(self, values: Mapping[str, Any], image: str) -> Work:
        """Return the order; raises Problem, which names the parameter and its allowed values."""
        given = dict(self.fixed)
        if "{image}" in self.path:
            target = next(each.name for each in fields(self.order) if each.name in _TARGETS)
            given[target] = image if target == "target" else (image,)
        return as_order(self.order, self.parameters, {**self.defaults, **values}, given)


def _image_action(name: str, summary: str, order: type[Any], result: type[Any]) -> Endpoint:
    path = f"/images/{{image}}/{name}"
    return Endpoint("POST", path, summary, order, result, names={"dry": "dry_run"})


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", "/status", "The state of the mirror", StatusOrder, Status),
    Endpoint("GET", "/budget", "The pull limits", BudgetOrder, Budgets),
    Endpoint(
        "GET",
        "/usage",
        "The use of the disk, by repository, the largest first",
        DuOrder,
        Usage,
        defaults={"limit": PAGE},
        paged=True,
    ),
    Endpoint("GET", "/history", "The figures of a time span", HistoryOrder, History),
    Endpoint("GET", "/top", "The images and clients with the most pulls", TopOrder, Top),
    Endpoint("GET", "/fetches", "The fetches under way", FetchesOrder, Fetches),
    Endpoint(
        "GET",
        "/errors",
        "Recent requests that were no plain hits",
        ErrorsOrder,
        RecentRequests,
        names={"most": "limit"},
    ),
    Endpoint(
        "GET",
        "/images",
        "The stored images",
        LsOrder,
        StoredImages,
        defaults={"limit": PAGE},
        paged=True,
    ),
    Endpoint(
        "GET", "/config", "The configuration in force", ConfigOrder, Configuration, guarded=True
    ),
    Endpoint(
        "GET",
        "/doctor",
        "The findings about the mirror, with advice",
        DoctorOrder,
        Examined,
        guarded=True,
    ),
    Endpoint(
        "GET",
        "/export",
        "Stored images as an OCI layout in a tar archive",
        ExportOrder,
        Exported,
        names={"images": "image", "platforms": "platform"},
        fixed={"all_or_none": True},
        repeated=("image", "platform"),
        archive=True,
        guarded=True,
    ),
    Endpoint("GET", "/images/{image}", "An image or a repository", ShowOrder, ShownImage),
    Endpoint(
        "POST",
        "/warm",
        "Store images before clients request them",
        WarmOrder,
        Warmed,
        names={"dry": "dry_run"},
        body=True,
        stream=True,
    ),
    Endpoint(
        "POST",
        "/import",
        "Take in the images of an OCI layout in a tar archive",
        ImportOrder,
        Imported,
        fixed={"source": "-", "images": ()},
        takes_archive=True,
    ),
    Endpoint(
        "POST",
        "/reload",
        "Read the configuration again, and apply it",
        ReloadOrder,
        Reloaded,
    ),
    Endpoint(
        "POST",
        "/gc",
        "Remove useless files and rows, and evict down to the quota",
        GcOrder,
        Collected,
        names={"dry": "dry_run"},
    ),
    Endpoint(
        "POST",
        "/verify",
        "Hash stored content, and remove damaged content",
        VerifyOrder,
        Verified,
        names={"dry": "dry_run"},
        body=True,
        stream=True,
    ),
    Endpoint(
        "POST",
        "/images/{image}/warm",
        "Store an image before clients request it",
        WarmOrder,
        Warmed,
        names={"dry": "dry_run"},
        body=True,
        stream=True,
    ),
    _image_action("refresh", "Ask upstream about a tag now", RefreshOrder, Refreshed),
    _image_action("pin", "Keep an image from eviction, and fresh", PinOrder, Pinned),
    _image_action("unpin", "Let an image be evicted again", UnpinOrder, Pinned),
    _image_action("purge", "Remove an image or a repository", PurgeOrder, Purged),
)
