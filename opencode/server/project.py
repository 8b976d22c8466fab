"""`/api/project`: the directories that sessions have used (API section 2)."""

from pathlib import Path

from flask import Blueprint, g

from opencode.server import schemas, views
from opencode.server.routes import route
from opencode.session import vcs
from opencode.session.service import SessionService


def blueprint(sessions: SessionService) -> Blueprint:
    """Make the blueprint over the session service."""
    project = Blueprint("project", __name__, url_prefix="/api/project")

    @project.get("")
    @route(summary="Projects that sessions have used", answer=schemas.ProjectList)
    def list_projects() -> schemas.ProjectList:
        found = sessions.projects(g.caller.owner)
        return schemas.ProjectList(
            projects=[views.project(own, vcs.find(Path(own)), created_at) for own, created_at in found]
        )

    @project.get("/current")
    @route(summary="The project that new sessions work in", answer=schemas.Project)
    def current_project() -> schemas.Project:
        here = str(sessions.directories.default)
        created_at = dict(sessions.projects(g.caller.owner)).get(here)
        return views.project(here, vcs.find(Path(here)), created_at)

    return project
