"""The log-probabilities in what services and inference engines answer.

Two forms are in use. A chat completion has a list of the tokens that it wrote, each with the most likely ones at its
place: `choices[0].logprobs.content[0].top_logprobs[0].token` and `.logprob`. A plain completion has a table a token:
`choices[0].logprobs.top_logprobs[0]`, by token. Results of a batch wrap either as `response.body`.
"""

from collections.abc import Mapping
from typing import Any

from softlab.errors import SourceError


def logprobs_of(record: Mapping[str, Any], *, token: int, where: str) -> dict[str, float]:
    """By token, of the one at this place of the first answer. Raises SourceError where there are none."""
    try:
        found = _at(record, token)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise SourceError(
            f"{where}: has neither predictions by their kind nor the log-probabilities of an answer for its token "
            f"{token} (choices, logprobs, content or top_logprobs). Ask the service for `logprobs` and `top_logprobs`, "
            f"or leave that line out."
        ) from error
    if not found:
        raise SourceError(f"{where}: its answer has no log-probabilities. Leave that line out.")
    return found


def _at(record: Mapping[str, Any], token: int) -> dict[str, float]:
    body = record
    for name in ("response", "body"):
        body = body.get(name, body)
    logprobs = body["choices"][0]["logprobs"]
    if logprobs.get("content") is not None:
        place = logprobs["content"][token]
        told = [(each["token"], float(each["logprob"])) for each in place["top_logprobs"]]
        own = (place["token"], float(place["logprob"]))  # it may not be among the likeliest
        return dict(told) | ({} if any(each == own[0] for each, _ in told) else dict([own]))
    return {str(each): float(logprob) for each, logprob in logprobs["top_logprobs"][token].items()}
