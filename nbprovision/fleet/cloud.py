"""AWS for a fleet: clients of boto3, and its errors as messages that name the cure.

boto3 is the extra ``fleet``: only this module loads it. Its ``adaptive`` retries lose no call of many threads to
throttling: https://boto3.amazonaws.com/v1/documentation/api/latest/guide/retries.html
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from nbprovision import __version__
from nbprovision.model.errors import TaskFailed, UsageError
from nbprovision.system import trust
from nbprovision.system.context import MOST_THREADS
from nbprovision.system.secrets import remember

Policy = Literal["instance", "publisher", "roller", "reader"]

INSTALL = "pip install 'nbprovision[fleet]'"
_ATTEMPTS = 10
# The actions of IAM whose names are not those of their operations.
_ACTIONS = {
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectsV2": "s3:ListBucket",
}
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
_WRONG = ("InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch")
_MISSING = ("NoSuchKey", "404", "ResourceNotFoundException", "NotFound")
_CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


class Refused(TaskFailed):
    """AWS refused a call for a reason of its own.

    Attributes:
        code: The code of the error.
        said: AWS's message.
    """

    code: str = ""
    said: str = ""


class Denied(Refused):
    """The credentials may not do this."""


class Missing(Refused):
    """The object or the resource does not exist."""


class Conflict(Refused):
    """Another publisher was faster: the object is not in the expected state."""


class Cloud:
    """The clients of one account and region.

    Args:
        region: The region; None for that of the environment.
        policy: The policy of `nbprovision fleet policy` that has the actions of this command.
    """

    def __init__(self, region: str | None, policy: Policy) -> None:
        try:
            import boto3
            import botocore.config
        except ImportError:
            raise UsageError(
                "nbprovision fleet needs boto3",
                cause="this command talks to AWS; boto3 is not a part of the normal installation",
                cure=INSTALL,
            ) from None
        self._policy = policy
        self._config = botocore.config.Config(
            retries={"mode": "adaptive", "total_max_attempts": _ATTEMPTS},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=2 * MOST_THREADS,
            user_agent_extra=f"nbprovision/{__version__}",
        )
        self._brief = self._config.merge(
            botocore.config.Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=3)
        )
        with _Explained("", self._policy):
            self._session = boto3.session.Session(region_name=region)
            credentials = self._session.get_credentials()
            for secret in () if credentials is None else (credentials.secret_key, credentials.token):
                if secret:
                    remember(secret)
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def call(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """Call an operation of a service, both with the names that boto3 gives them.

        Raises:
            Denied, Missing, Conflict, Refused: AWS's answer is an error.
            TaskFailed: credentials, the region or the connection are missing.
        """
        client = self.client(service)
        with _Explained(_action(client, service, operation), self._policy, _target(parameters)):
            answer: Mapping[str, Any] = getattr(client, operation)(**parameters)
        return answer

    def pages(self, service: str, operation: str, **parameters: Any) -> Iterator[Mapping[str, Any]]:
        """Return the pages of an operation that lists; raises as `call` does."""
        client = self.client(service)
        pages = iter(client.get_paginator(operation).paginate(**parameters))
        while True:
            with _Explained(_action(client, service, operation), self._policy, _target(parameters)):
                page = next(pages, None)
            if page is None:
                return
            yield page

    def client(self, service: str) -> Any:
        """Return the client of a service."""
        with self._lock:  # a session is for one thread at a time, its clients are for many
            if service not in self._clients:
                with _Explained("", self._policy):
                    config = self._brief if service == "sts" else self._config
                    self._clients[service] = self._session.client(service, config=config)
            return self._clients[service]

    def caller(self) -> str:
        """Return the name of the caller: ``assumed-role/publisher/jane``, or ``jane@host`` where STS has no answer.

        Every caller may ask for it, but a network without internet may have no way to STS.
        """
        try:
            return str(self.call("sts", "get_caller_identity")["Arn"]).rpartition(":")[2]
        except TaskFailed:
            user = trust.account(os.geteuid()) or str(os.geteuid())
            return f"{user}@{os.uname().nodename}"


def server_time(answer: Mapping[str, Any]) -> float:
    """Return AWS's time of an answer, in seconds since the epoch: this machine's clock may be wrong."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return time.time()


def _action(client: Any, service: str, operation: str) -> str:
    """Return the action of IAM for an operation."""
    name = f"{service}:{client.meta.method_to_api_mapping.get(operation, operation)}"
    return _ACTIONS.get(name, name)


def _target(parameters: Mapping[str, Any]) -> str:
    """Return what a call is about, for messages."""
    if "Bucket" in parameters:
        return f"s3://{parameters['Bucket']}/{parameters.get('Key', parameters.get('Prefix', ''))}"
    names = ("NotebookInstanceName", "NotebookInstanceLifecycleConfigName", "ResourceArn", "logStreamName")
    return next((str(parameters[name]) for name in names if name in parameters), "")


class _Explained:
    """Turns the errors of boto3 in its body into messages with a cure."""

    def __init__(self, action: str, policy: Policy, target: str = "") -> None:
        self._action = action
        self._policy = policy
        self._about = f"{action} on {target}" if target else action

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Raise the message for an error of boto3."""
        from botocore import exceptions

        if isinstance(error, exceptions.ClientError):
            raise self._refused(error.response) from None
        if isinstance(error, exceptions.BotoCoreError):
            raise self._failed(error, exceptions) from None

    def _refused(self, response: Mapping[str, Any]) -> TaskFailed:
        details = response.get("Error", {})
        code, said = str(details.get("Code", "")), str(details.get("Message", ""))
        message, cure, kind = f"{self._about} failed: {code}", "correct the reported error, and run again", Refused
        if code in _DENIED:
            kind = Denied
            message = f"{self._about} is denied"
            cure = f"allow {self._action}: `nbprovision fleet policy {self._policy}` prints a policy with it"
        elif code in _EXPIRED:
            message, cure = "the credentials of AWS have expired", "get new ones, such as by `aws sso login`"
        elif code in _WRONG:
            message, cure = "AWS does not know these credentials", "see which are used: aws sts get-caller-identity"
        elif code == "NoSuchBucket":
            message = f"{self._about}: the bucket does not exist"
            cure = "create it, or correct `bucket` in the fleet file: `aws s3 ls` shows the names"
        elif code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"):
            message = f"{self._about}: the bucket is in another region"
            cure = "write that region into the fleet file, `region: eu-west-1`: SageMaker's instances are there as well"
        elif code in _MISSING:
            kind, message = Missing, f"{self._about}: it does not exist"
        elif code in _CONFLICTS:
            kind, message, cure = Conflict, f"{self._about}: it has changed meanwhile", "run again"
        error = kind(message, cause=said, cure=cure)
        error.code, error.said = code, said
        return error

    def _failed(self, error: Any, exceptions: Any) -> TaskFailed:
        about = f"{self._about}: " if self._about else ""
        if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
            return TaskFailed(
                "credentials of AWS are missing",
                cause=str(error),
                cure="set AWS_PROFILE, or log in: `aws configure sso`, `aws configure`",
            )
        # Older ones have not all of them.
        names = ("CredentialRetrievalError", "SSOError", "TokenRetrievalError", "LoginError")
        if isinstance(error, tuple(getattr(exceptions, name) for name in names if hasattr(exceptions, name))):
            return TaskFailed(
                "the credentials of AWS cannot be read, or have expired",
                cause=str(error),
                cure="log in again, such as by `aws sso login`",
            )
        if isinstance(error, exceptions.ProfileNotFound):
            return TaskFailed(
                "the profile of AWS does not exist",
                cause=str(error),
                cure="correct AWS_PROFILE: `aws configure list-profiles` shows the names",
            )
        if isinstance(error, exceptions.NoRegionError | exceptions.InvalidRegionError):
            return TaskFailed(
                "the region of AWS is missing or wrong",
                cause=str(error),
                cure="write it into the fleet file, `region: eu-west-1`, or set AWS_REGION",
            )
        if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
            return TaskFailed(
                f"{about}AWS cannot be reached",
                cause=str(error),
                cure="check the connection, the proxy (https_proxy), and the region",
            )
        return TaskFailed(f"{about}boto3 failed", cause=str(error), cure="correct the reported error, and run again")
