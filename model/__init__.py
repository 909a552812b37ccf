"""The embedded model: SmolLM2-135M on llama.cpp, behind an OpenAI-compatible URL, with no key and no download.

Stands in for a real provider until ``models.yaml`` names one. Imports ``fleet.settings``, ``fleet.logs`` and libraries
only; ``xllamacpp``, which needs a system library, is imported by ``model.server`` when it starts and nowhere else.
"""

UNAVAILABLE = 3
"""Exit code where this machine cannot run the model: starting it again cannot help, and the fleet can do without."""
