"""Media types that the mirror knows, and the Accept header for manifests."""

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

# Always the same, regardless of the client's Accept: the cache is keyed by digest, and one answer
# must serve every client. First the four types that every engine accepts: docker and containerd
# list them, and registries convert nothing for such a request. Then the types that skopeo also
# accepts, and older and artifact types: a registry looks for these only after the four, and ignores
# types that it does not know. The last, as containerd has it, covers unknown types, and registries
# that would answer 406 without it.
ACCEPT = (
    f"{OCI_INDEX}, {DOCKER_LIST}, {OCI_MANIFEST}, {DOCKER_MANIFEST}, "
    f"{SCHEMA1_SIGNED}, {SCHEMA1}, {OCI_ARTIFACT}, {ORAS_ARTIFACT}, */*"
)

BLOB = "application/octet-stream"
JSON = "application/json"

# Vendor types (RFC 6838, 3.2) of JSON documents, or of signed JSON (schema 1).
_MANIFEST = re.compile(r"application/vnd\.[a-z0-9!#$&^_.+-]{1,100}\+(?:json|prettyjws)", re.ASCII)


def bare(content_type: str) -> str:
    """Return the media type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def names_manifest(media_type: str) -> bool:
    """Whether a media type can be a manifest's; unknown types included."""
    return _MANIFEST.fullmatch(media_type) is not None
