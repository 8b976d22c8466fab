"""For `gunicorn app:app` and the Procfile; `opencode serve` uses the same hooks without this file."""

import gc
import os

# Before the imports begin; `when_ready` and `post_worker_init` turn it on again.
gc.disable()

from opencode.server.gunicorn_conf import *  # noqa: E402, F403 - the imports; gunicorn reads its settings from this module's names
from opencode.server.gunicorn_conf import addresses  # noqa: E402 - as above

bind = addresses(os.environ)  # noqa: TID251 - this is where the platform's PORT comes in
