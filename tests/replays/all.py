"""Every replay, by the name of its provider in the README."""

from tests.replays import azure, claude, gemini, llama_cpp, ollama, openai, openrouter, vllm
from tests.replays.replay import Replay

REPLAYS: dict[str, list[Replay]] = {
    "OpenAI": openai.REPLAYS,
    "Azure": azure.REPLAYS,
    "Gemini": gemini.REPLAYS,
    "Anthropic": claude.REPLAYS,
    "vLLM": vllm.REPLAYS,
    "llama.cpp": llama_cpp.REPLAYS,
    "OpenRouter": openrouter.REPLAYS,
    "Ollama": ollama.REPLAYS,
}
