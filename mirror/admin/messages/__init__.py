"""The operator's orders, and the records that report on them: one module for each order."""

from mirror.admin.messages.budget import BudgetOrder
from mirror.admin.messages.common import (
    NotStored,
    OrderError,
    OrderInvalid,
    Progress,
    Refused,
    Unavailable,
)
from mirror.admin.messages.config import ConfigOrder, Configuration, ConfiguredKey
from mirror.admin.messages.content import Absent, Content, Piece, Wanted
from mirror.admin.messages.doctor import DoctorOrder, Examined, Finding
from mirror.admin.messages.du import DuOrder, ImageUsage, RepositoryUsage, Usage
from mirror.admin.messages.errors import ErrorsOrder, RecentRequest, RecentRequests
from mirror.admin.messages.export import Exported, ExportedImage, ExportOrder
from mirror.admin.messages.fetches import Fetches, FetchesOrder, RunningFetch
from mirror.admin.messages.gc import Collected, GcOrder
from mirror.admin.messages.history import History, HistoryOrder, Point
from mirror.admin.messages.import_ import Imported, ImportedImage, ImportOrder, OfferedImage
from mirror.admin.messages.ls import LsOrder, StoredImage, StoredImages
from mirror.admin.messages.pin import PinChange, Pinned, PinOrder, UnpinOrder
from mirror.admin.messages.purge import Purged, PurgeOrder
from mirror.admin.messages.refresh import Refreshed, RefreshedImage, RefreshOrder
from mirror.admin.messages.reload import Reloaded, ReloadOrder, Unusable
from mirror.admin.messages.show import (
    Attached,
    ImageTag,
    Layer,
    PlatformImage,
    ShownImage,
    ShowOrder,
)
from mirror.admin.messages.status import (
    Concern,
    DiskStatus,
    HourEvents,
    LimitStatus,
    ScheduleStatus,
    SpanFigures,
    Status,
    StatusOrder,
    UpstreamStatus,
)
from mirror.admin.messages.top import Top, TopOrder, TopRow
from mirror.admin.messages.verify import DamagedBlob, Verified, VerifyOrder
from mirror.admin.messages.warm import (
    ImageFor,
    Warmed,
    WarmedImage,
    WarmingImage,
    WarmOrder,
    WarmPlan,
    WarmProgress,
)
from mirror.budget.summary import Budgets

__all__ = [
    "UNFINISHED",
    "Absent",
    "Attached",
    "BudgetOrder",
    "Collected",
    "Concern",
    "ConfigOrder",
    "Configuration",
    "ConfiguredKey",
    "Content",
    "DamagedBlob",
    "DiskStatus",
    "DoctorOrder",
    "DuOrder",
    "ErrorsOrder",
    "Examined",
    "ExportOrder",
    "Exported",
    "ExportedImage",
    "Fetches",
    "FetchesOrder",
    "Finding",
    "GcOrder",
    "History",
    "HistoryOrder",
    "HourEvents",
    "ImageFor",
    "ImageTag",
    "ImageUsage",
    "ImportOrder",
    "Imported",
    "ImportedImage",
    "Layer",
    "LimitStatus",
    "Live",
    "Look",
    "LsOrder",
    "NotStored",
    "OfferedImage",
    "OrderError",
    "OrderInvalid",
    "Piece",
    "PinChange",
    "PinOrder",
    "Pinned",
    "PlatformImage",
    "Point",
    "Progress",
    "PurgeOrder",
    "Purged",
    "RecentRequest",
    "RecentRequests",
    "Record",
    "RefreshOrder",
    "Refreshed",
    "RefreshedImage",
    "Refused",
    "ReloadOrder",
    "Reloaded",
    "RepositoryUsage",
    "RunningFetch",
    "ScheduleStatus",
    "ShowOrder",
    "ShownImage",
    "SpanFigures",
    "Status",
    "StatusOrder",
    "StoredImage",
    "StoredImages",
    "Top",
    "TopOrder",
    "TopRow",
    "Unavailable",
    "UnpinOrder",
    "Unusable",
    "UpstreamStatus",
    "Usage",
    "Verified",
    "VerifyOrder",
    "Wanted",
    "WarmOrder",
    "WarmPlan",
    "WarmProgress",
    "Warmed",
    "WarmedImage",
    "WarmingImage",
    "Work",
]

# Orders that only read figures, perhaps once a second.
Look = StatusOrder | HistoryOrder | TopOrder | ErrorsOrder | FetchesOrder

# Orders that only a running mirror carries out.
Live = (
    WarmOrder | RefreshOrder | ReloadOrder | FetchesOrder | ErrorsOrder | ConfigOrder | DoctorOrder
)

# Orders that the admin service carries out.
Work = (
    VerifyOrder
    | GcOrder
    | PurgeOrder
    | DuOrder
    | BudgetOrder
    | LsOrder
    | ShowOrder
    | StatusOrder
    | HistoryOrder
    | TopOrder
    | ErrorsOrder
    | FetchesOrder
    | WarmOrder
    | ExportOrder
    | ImportOrder
    | PinOrder
    | UnpinOrder
    | RefreshOrder
    | ReloadOrder
    | ConfigOrder
    | DoctorOrder
)

# The records of an order: progress, damage, and at the end a result or a failure.
Record = (
    Progress
    | DamagedBlob
    | Verified
    | Collected
    | Purged
    | Usage
    | Budgets
    | StoredImages
    | ShownImage
    | Status
    | History
    | Top
    | RecentRequests
    | Fetches
    | Exported
    | Imported
    | Content
    | Piece
    | Absent
    | Wanted
    | Pinned
    | Refreshed
    | Reloaded
    | Unusable
    | Configuration
    | Examined
    | WarmPlan
    | WarmProgress
    | WarmedImage
    | Warmed
    | Refused
)

# The records that others follow: an answer that ends with one of these was broken off.
UNFINISHED = (Progress, DamagedBlob, Content, Piece, Absent, Wanted)
