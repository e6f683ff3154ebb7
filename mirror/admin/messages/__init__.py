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
from mirror.admin.messages.du import DuOrder, ImageUsage, RepositoryUsage, Usage
from mirror.admin.messages.gc import Collected, GcOrder
from mirror.admin.messages.ls import LsOrder, StoredImage, StoredImages
from mirror.admin.messages.purge import Purged, PurgeOrder
from mirror.admin.messages.reload import Reloaded, ReloadOrder, Unusable
from mirror.admin.messages.show import (
    Attached,
    ImageTag,
    Layer,
    PlatformImage,
    ShownImage,
    ShowOrder,
)
from mirror.admin.messages.verify import DamagedBlob, Verified, VerifyOrder
from mirror.budget.summary import Budgets

__all__ = [
    "Attached",
    "BudgetOrder",
    "Collected",
    "DamagedBlob",
    "DuOrder",
    "GcOrder",
    "ImageTag",
    "ImageUsage",
    "Layer",
    "LsOrder",
    "NotStored",
    "Order",
    "OrderError",
    "OrderInvalid",
    "PlatformImage",
    "Progress",
    "PurgeOrder",
    "Purged",
    "Record",
    "Refused",
    "ReloadOrder",
    "Reloaded",
    "RepositoryUsage",
    "ShowOrder",
    "ShownImage",
    "StoredImage",
    "StoredImages",
    "Unavailable",
    "Unusable",
    "Usage",
    "Verified",
    "VerifyOrder",
    "Work",
]

# Orders that need the data folder, and no daemon.
Work = VerifyOrder | GcOrder | PurgeOrder | DuOrder | BudgetOrder | LsOrder | ShowOrder
Order = Work | ReloadOrder

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
    | Reloaded
    | Unusable
    | Refused
)
