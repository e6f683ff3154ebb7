"""Documents of any kind: manifests of Kubernetes, resources of operators, values of charts.

The reader knows no kind. It walks all keys, and takes the values of those named after images.
"""

from __future__ import annotations

from mirror.image_lists.found import ImageList
from mirror.image_lists.yaml_nodes import Items, Node, Table, Text
from mirror.oci.errors import shown

_SCHEMA = "CustomResourceDefinition"  # its `image` keys describe fields, and name no image


def read_document(document: Node, found: ImageList) -> None:
    """Add the images of a document; a sequence of texts at its root is a list of images."""
    if isinstance(document, Items) and all(isinstance(each, Text) for each in document.items):
        for each in document.items:
            if isinstance(each, Text):
                found.add(each.text, each.line)
        return
    _Walk(found).walk(document, "")


class _Walk:
    """One walk. A node that aliases lead to is walked once for each meaning of its key."""

    def __init__(self, found: ImageList) -> None:
        self._found = found
        self._walked: set[tuple[int, str]] = set()

    def walk(self, node: Node, role: str) -> None:
        """Walk a node below a key of this role. The depth is that of the tree, which is bounded."""
        if isinstance(node, Text) or (id(node), role) in self._walked:
            return
        self._walked.add((id(node), role))
        if isinstance(node, Items):
            for each in node.items:
                self.walk(each, "")
        elif node.text("kind") != _SCHEMA:
            self._table(node, role)

    def _table(self, table: Table, role: str) -> None:
        if role == "image":
            self._spelled(table)
        for key, child in table.pairs.items():
            inner = "image" if role == "images" else _role(key)
            if isinstance(child, Text):
                if inner == "image" and role != "images":
                    self._text(table, key, child)
            else:
                self.walk(child, inner)

    def _text(self, table: Table, key: str, image: Text) -> None:
        """Add the text of a key. Only of `image` itself a name alone is believed to be one."""
        text, alone = image.text, key == "image"
        tag = (table.text("tag") or table.text("imageTag")) if alone and text else None
        if tag and _is_untagged(text):
            text = f"{text}:{tag}"
        if text and (alone or not _is_untagged(text)):
            self._found.add(text, image.line)

    def _spelled(self, table: Table) -> None:
        """Add an image that is spelled out: by its reference, or by the parts of its name."""
        if reference := table.text("reference"):
            self._found.add(reference, table.line)
            return
        if table.odd:
            self._found.skip(table.line, "a template is no image name: `helm template` renders it")
        repository = table.text("repository")
        if not repository:
            return
        registry, digest = table.text("registry") or "", table.text("digest") or ""
        tag = table.text("tag") or ""
        name = f"{registry}/{repository}" if registry else repository
        if digest:
            self._found.add(f"{name}@{digest}", table.line)
        elif tag or not _is_untagged(name):
            self._found.add(f"{name}:{tag}" if tag else name, table.line)
        else:
            reason = "has no tag here: `helm template` fills it in"
            self._found.skip(table.line, f"{shown(name)} {reason}")


def _role(key: str) -> str:
    """Return the meaning of a key: `image`, `thanosImage`, `images`, or none."""
    if key == "images":
        return "images"
    return "image" if key == "image" or key.endswith(("Image", "imageName")) else ""


def _is_untagged(text: str) -> bool:
    return "@" not in text and ":" not in text.rpartition("/")[2]
