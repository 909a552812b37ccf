"""The embedded model: SmolLM2-135M on llama.cpp behind an OpenAI-compatible URL, with no key and no download.

It stands in until ``models.yaml`` names a real provider. Imports ``fleet`` and libraries only; ``xllamacpp``, which
needs a system library, is imported in ``model.server`` when it starts and nowhere else.
"""

UNAVAILABLE = 3
"""Exit code where this machine cannot run the model. Starting again cannot help; the fleet works without it."""
