"""The operations that carry out orders: one module for each order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from mirror.admin.messages import (
    BudgetOrder,
    ConfigOrder,
    DoctorOrder,
    DuOrder,
    ErrorsOrder,
    ExportOrder,
    FetchesOrder,
    GcOrder,
    HistoryOrder,
    ImportOrder,
    LsOrder,
    PinOrder,
    PurgeOrder,
    Record,
    RefreshOrder,
    ReloadOrder,
    ShowOrder,
    StatusOrder,
    TopOrder,
    UnpinOrder,
    VerifyOrder,
    WarmOrder,
    Work,
)
from mirror.admin.operations.budget import budget
from mirror.admin.operations.config import config
from mirror.admin.operations.doctor import doctor
from mirror.admin.operations.du import du
from mirror.admin.operations.errors import errors
from mirror.admin.operations.export import export
from mirror.admin.operations.fetches import fetches
from mirror.admin.operations.gc import gc
from mirror.admin.operations.history import history
from mirror.admin.operations.import_ import import_images
from mirror.admin.operations.ls import ls
from mirror.admin.operations.parts import OperationParts
from mirror.admin.operations.pin import pin, unpin
from mirror.admin.operations.purge import purge
from mirror.admin.operations.refresh import refresh
from mirror.admin.operations.reload import reload
from mirror.admin.operations.show import show
from mirror.admin.operations.status import status
from mirror.admin.operations.top import top
from mirror.admin.operations.verify import verify
from mirror.admin.operations.warm import warm

# Takes an order of one type; yields progress, and finally the result.
Operation: TypeAlias = Callable[[OperationParts, Any], AsyncGenerator[Record, None]]

OPERATIONS: Mapping[type[Work], Operation] = MappingProxyType(
    {
        BudgetOrder: budget,
        ConfigOrder: config,
        DoctorOrder: doctor,
        DuOrder: du,
        LsOrder: ls,
        ErrorsOrder: errors,
        FetchesOrder: fetches,
        GcOrder: gc,
        HistoryOrder: history,
        StatusOrder: status,
        TopOrder: top,
        ExportOrder: export,
        ImportOrder: import_images,
        PinOrder: pin,
        PurgeOrder: purge,
        RefreshOrder: refresh,
        ReloadOrder: reload,
        ShowOrder: show,
        UnpinOrder: unpin,
        VerifyOrder: verify,
        WarmOrder: warm,
    }
)
