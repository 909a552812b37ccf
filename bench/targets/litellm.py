"""LiteLLM's proxy as its production guide recommends: one worker process, logs at ERROR, no database, no options."""

import secrets

import yaml

from bench.frames import MODEL
from bench.targets.peer import Peer


class LiteLLM(Peer):
    name = "litellm"
    package = "litellm"
    health = "/health/liveliness"

    def start(self) -> None:
        self.key = f"sk-{secrets.token_hex(32)}"  # it does not start without one
        parameters = {"model": f"openai/{MODEL}", "api_base": f"{self.backend}/v1", "api_key": "none"}
        config = self.folder / "config.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "model_list": [{"model_name": MODEL, "litellm_params": parameters}],
                    "general_settings": {"disable_spend_logs": True, "disable_error_logs": True},
                    "litellm_settings": {"request_timeout": 600, "set_verbose": False, "json_logs": True},
                }
            )
        )
        self.run(
            "proxy",
            self.command("litellm"),
            *("--config", str(config), "--host", "127.0.0.1", "--port", str(self.port), "--num_workers", "1"),
            LITELLM_MASTER_KEY=self.key,
            LITELLM_LOG="ERROR",
            LITELLM_MODE="PRODUCTION",
            LITELLM_LOCAL_MODEL_COST_MAP="True",  # otherwise it downloads a price list when it starts
        )
