"""Media types that matter to a cache, and what upstream is asked for."""

from __future__ import annotations

import re

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
ORAS_ARTIFACT = "application/vnd.cncf.oras.artifact.manifest.v1+json"

MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
SCHEMA1S = frozenset({SCHEMA1, SCHEMA1_SIGNED})
ARTIFACTS = frozenset({OCI_ARTIFACT, ORAS_ARTIFACT})
KNOWN = MANIFESTS | INDEXES | SCHEMA1S | ARTIFACTS

# Always the same, whatever the client accepts: the cache is keyed by digest, so that one answer
# must serve every client (protocol: "never transform"). First what every engine takes, in the form
# that registries convert nothing of: docker and containerd name these four. Then what skopeo takes
# beside them, and what registries keep under older and artifact types: a registry looks for these
# types only after the four, and one that knows none of them ignores them. The last, as containerd
# has it, is for types that are not known yet, and for registries that answer 406 otherwise.
ACCEPT = (
    f"{OCI_INDEX}, {DOCKER_LIST}, {OCI_MANIFEST}, {DOCKER_MANIFEST}, "
    f"{SCHEMA1_SIGNED}, {SCHEMA1}, {OCI_ARTIFACT}, {ORAS_ARTIFACT}, */*"
)

BLOB = "application/octet-stream"
JSON = "application/json"

# Vendors' types (RFC 6838, 3.2) of documents in JSON, or in JSON that is signed (schema 1).
_MANIFEST = re.compile(r"application/vnd\.[a-z0-9!#$&^_.+-]{1,100}\+(?:json|prettyjws)", re.ASCII)


def bare(content_type: str) -> str:
    """Return the media type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def names_manifest(media_type: str) -> bool:
    """Whether a media type can be a manifest's, be it one that is not known here."""
    return _MANIFEST.fullmatch(media_type) is not None
