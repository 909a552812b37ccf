"""The manifests in ``deploy/kubernetes``: rendered by kubectl, held against the official schemas and the code."""
