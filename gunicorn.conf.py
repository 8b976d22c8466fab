"""For `gunicorn app:app` and the Procfile; `opencode serve` uses the same hooks without this file."""

import os

from opencode.server.gunicorn_conf import *  # noqa: F403 - gunicorn reads its settings from this module's names
from opencode.server.gunicorn_conf import addresses

bind = addresses(os.environ)  # noqa: TID251 - this is where the platform's PORT comes in
