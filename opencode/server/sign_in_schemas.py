"""Bodies and answers of the routes that sign in (API section 8)."""

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from opencode.server.schemas import Answer, Request


class MakeTicket(Request):
    path: Annotated[str, StringConstraints(max_length=500)] = Field(description="of the GET that the ticket is for")


class SignIn(Request):
    """One of the two."""

    code: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        None, description="of the link that the server printed"
    )
    token: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.code is None) == (self.token is None):
            raise PydanticCustomError("one_of", "send either a code or a token")
        return self


class Ticket(Answer):
    ticket: str = Field(description="for ?ticket= at that path")
    expires_in: int = Field(description="seconds in which it must be used; the same stream may come back for 12 hours")


class SignedIn(Answer):
    owner: str
    scopes: list[str]
