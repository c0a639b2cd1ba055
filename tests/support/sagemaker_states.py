"""SageMaker's notebook instances in moto, with the states, the operations and the refusals that moto 5 lacks.

These are patches of moto, so what a test shows by them is only as good as they are. They add:

- the states Pending, Stopping, Updating and Failed. An instance goes on after it was listed or described twice, or as
  moto's state manager is set for `STATES`: https://docs.getmoto.org/en/latest/docs/configuration/state_transition/
- UpdateNotebookInstance, UpdateNotebookInstanceLifecycleConfig, ListNotebookInstanceLifecycleConfigs, and tags of
  lifecycle configs.
- pages of 10 results unless MaxResults is given, as the service has them.
- what the service refuses by its published model: long names and scripts, names of other characters, two scripts of a
  hook. botocore's copy of the model has these limits.
- what it refuses by the state of an instance. The words are those that its users report:
  https://github.com/aws/amazon-sagemaker-examples/issues/1094

A script whose last line is ``exit N``, where N is not 0, makes the start fail. No script runs. The reason is the one
that users report for scripts that take too long.

Guessed, since AWS documents neither: the words of the refusals of a missing config and of a script that is not base64,
and that a Failed instance may be updated. `FROM_FAILED` is the other answer.

Use in process::

    with sagemaker_states.mocked():
        client = boto3.client("sagemaker", region_name="us-east-1")

Use as a server: ``moto_server.serving(states=True)``, or from the root folder of the project
``python -m tests.support.sagemaker_states -H 127.0.0.1 -p PORT``.

Sources:
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UpdateNotebookInstance.html
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_NotebookInstanceLifecycleHook.html
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import itertools
import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import botocore.session
import moto.server
from moto import mock_aws
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.moto_api import state_manager
from moto.moto_api._internal.managed_state_model import ManagedState
from moto.sagemaker import models, urls
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import SageMakerModelBackend, sagemaker_backends
from moto.sagemaker.responses import SageMakerResponse
from moto.utilities.paginator import paginate

STATES = "sagemaker::notebook-instance"  # the name of the model for moto's state manager
FROM_FAILED = True  # UpdateNotebookInstance changes a Failed instance
_Config = models.FakeSageMakerNotebookInstanceLifecycleConfig
_PAGES = {
    name: {
        "input_token": "next_token",
        "limit_key": "max_results",
        "limit_default": 10,
        "unique_attribute": "arn",
        "fail_on_invalid_token": False,
    }
    for name in ("list_notebook_instances", "list_lifecycle_configs")
}


class Instance(models.FakeSagemakerNotebookInstance, ManagedState):
    """A notebook instance whose states take time.

    Attributes:
        outcome: Why its start fails; None if it succeeds.

    """

    __module__ = models.__name__  # moto derives the service from it

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        ManagedState.__init__(
            self, STATES, [("Pending", "InService"), ("Stopping", "Stopped"), ("Updating", "Stopped")]
        )
        self.outcome: str | None = None
        super().__init__(*arguments, **keywords)

    def start(self) -> None:
        """Begin to start."""
        self.enter("Pending")

    def stop(self) -> None:
        """Begin to stop."""
        self.enter("Stopping")

    def enter(self, status: str) -> None:
        """Set a status that the instance leaves by itself, or stays in."""
        self._status, self._tick, self._time_progressed = status, 0, datetime.now()  # noqa: DTZ005 (moto compares it so)
        self.last_modified_time = utcnow()

    def to_dict(self) -> dict[str, Any]:
        """The fields of DescribeNotebookInstance."""
        fields = super().to_dict()
        return fields | {"FailureReason": self.outcome} if self.status == "Failed" else fields

    def _get_next_status(self, previous: str | None) -> str | None:
        failed = previous == "Pending" and self.outcome is not None
        return "Failed" if failed else super()._get_next_status(previous)


class Backend(SageMakerModelBackend):
    """moto's SageMaker with these instances."""

    __module__ = models.__name__  # moto derives the service from it

    def create_notebook_instance(self, **fields: Any) -> Instance:
        """Create an instance, which runs both scripts of its config."""
        config = fields.get("lifecycle_config_name")
        self._require_config(config, f"Unable to create Notebook Instance '{fields['notebook_instance_name']}'")
        instance: Any = super().create_notebook_instance(**fields)
        instance.outcome = self._failure(instance, "on_create") or self._failure(instance, "on_start")
        return instance  # type: ignore[no-any-return]

    def start_notebook_instance(self, notebook_instance_name: str) -> None:
        """Start an instance, which runs the script on-start of its config."""
        instance = self._in_state(notebook_instance_name, ["Stopped", "Failed"], "Pending")
        instance.outcome = self._failure(instance, "on_start")
        instance.start()

    def stop_notebook_instance(self, notebook_instance_name: str) -> None:
        """Stop an instance."""
        self._in_state(notebook_instance_name, ["InService"], "Stopping").stop()

    def update_notebook_instance(self, name: str, config: str | None, disassociate: bool, **fields: Any) -> None:
        """Change an instance that does not run."""
        instance = self._in_state(name, ["Stopped", "Failed"] if FROM_FAILED else ["Stopped"], "Updating")
        self._require_config(config, f"Unable to update Notebook Instance '{instance.arn}'")
        if config or disassociate:
            instance.lifecycle_config_name = config
        for field, value in fields.items():
            setattr(instance, field, value)
        instance.enter("Updating")

    @paginate(pagination_model=_PAGES)
    def list_notebook_instances(self, config_contains: str | None = None, **filters: Any) -> list[Any]:
        """The instances, by the filters that moto has and by the name of the config."""
        whole = {"max_results": len(self.notebook_instances) + 1, "next_token": None}
        listed, _ = super().list_notebook_instances(**(filters | whole))
        return [each for each in listed if (config_contains or "") in (each.lifecycle_config_name or "")]

    def create_notebook_instance_lifecycle_config(
        self, notebook_instance_lifecycle_config_name: str, on_create: Any, on_start: Any, tags: Any = None
    ) -> Any:
        """Create a config with tags."""
        name = notebook_instance_lifecycle_config_name
        self._require_base64(f"Unable to create Notebook Instance Lifecycle Config '{name}'", on_create, on_start)
        config: Any = super().create_notebook_instance_lifecycle_config(name, on_create, on_start)
        config.tags = tags or []
        return config

    def update_lifecycle_config(self, name: str, on_create: Any, on_start: Any) -> None:
        """Change the scripts that are given."""
        problem = f"Unable to update Notebook Instance Lifecycle Config '{name}'"
        self._require_config(name, problem)
        self._require_base64(problem, on_create, on_start)
        config: Any = self.notebook_instance_lifecycle_configurations[name]
        config.on_create = config.on_create if on_create is None else on_create
        config.on_start = config.on_start if on_start is None else on_start
        config.last_modified_time = utcnow()

    @paginate(pagination_model=_PAGES)
    def list_lifecycle_configs(self, name_contains: str, sort_by: str, descending: bool) -> list[Any]:
        """The configs, in order."""
        keys = {"Name": "notebook_instance_lifecycle_config_name", "CreationTime": "creation_time"}
        key = keys.get(sort_by, "last_modified_time")
        configs: Any = self.notebook_instance_lifecycle_configurations
        chosen = [configs[name] for name in configs if name_contains in name]
        return sorted(chosen, key=lambda each: getattr(each, key), reverse=descending)

    def add_tags(self, arn: str, tags: list[dict[str, str]]) -> list[dict[str, str]]:
        """Set tags; a key has one value."""
        self.delete_tags(arn, [tag["Key"] for tag in tags])
        return super().add_tags(arn, tags)

    def _get_resource_from_arn(self, arn: str) -> Any:
        kind, name = arn.rpartition(":")[2].split("/")
        if kind not in ("notebook-instance", "notebook-instance-lifecycle-config"):
            return super()._get_resource_from_arn(arn)
        kept: Any = (
            self.notebook_instances if kind == "notebook-instance" else self.notebook_instance_lifecycle_configurations
        )
        if name not in kept:
            raise ValidationError(f"Could not find {kind} with name {name}")
        return kept[name]

    def _in_state(self, name: str, allowed: list[str], target: str) -> Any:
        instance = self.get_notebook_instance(name)
        if instance.status not in allowed:
            listed = ", ".join(allowed)
            raise ValidationError(
                f"Status ({instance.status}) not in ([{listed}]). Unable to transition to ({target}) for Notebook"
                f" Instance ({instance.arn})."
            )
        return instance

    def _require_config(self, name: str | None, problem: str) -> None:
        if name and name not in self.notebook_instance_lifecycle_configurations:
            arn = _Config.arn_formatter(name, self.account_id, self.region_name)
            raise ValidationError(f"{problem}. (Details: Notebook Instance Lifecycle Config '{arn}' does not exist.)")

    @staticmethod
    def _require_base64(problem: str, *hooks: list[dict[str, str]] | None) -> None:
        try:
            for hook in itertools.chain(*(each or [] for each in hooks)):
                base64.b64decode(hook["Content"], validate=True)
        except binascii.Error:
            raise ValidationError(f"{problem}. (Details: the content is not base64-encoded.)") from None

    def _failure(self, instance: Any, hook: str) -> str | None:
        """Why a script fails."""
        config: Any = self.notebook_instance_lifecycle_configurations.get(instance.lifecycle_config_name)
        scripts = (getattr(config, hook) or []) if config else []
        texts = [base64.b64decode(script["Content"]).decode() for script in scripts]
        if not any(re.search(r"(?:^|\n)exit [1-9]\d*\s*\Z", text) for text in texts):
            return None
        return (
            f"Notebook Instance Lifecycle Config '{config.arn}' for Notebook Instance '{instance.arn}' took longer than"
            " 5 minutes. Please check your CloudWatch logs for more details if your Notebook Instance has Internet access."
        )


@functools.cache
def _model() -> Any:
    return botocore.session.get_session().get_service_model("sagemaker")


def _violations(shape: Any, value: Any, path: str) -> Iterator[str]:
    """Say how a value breaks the service's model, as the service does."""
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if name in value:
                key = name[0].lower() + name[1:]
                yield from _violations(member, value[name], f"{path}.{key}" if path else key)
        return
    limits = shape.metadata
    rules = []
    if shape.type_name in ("string", "list"):
        if len(value) > limits.get("max", len(value)):
            rules.append(f"Member must have length less than or equal to {limits['max']}")
        if len(value) < limits.get("min", 0):
            rules.append(f"Member must have length greater than or equal to {limits['min']}")
    if shape.type_name == "string":
        pattern, values = limits.get("pattern", ""), limits.get("enum")
        if pattern and r"\p{" not in pattern and not re.fullmatch(pattern, value):  # re has no classes of Unicode
            rules.append(f"Member must satisfy regular expression pattern: {pattern}")
        if values and value not in values:
            rules.append(f"Member must satisfy enum value set: [{', '.join(values)}]")
    for rule in rules:
        yield f"Value '{value}' at '{path}' failed to satisfy constraint: {rule}"
    if shape.type_name == "list":
        for number, item in enumerate(value, 1):
            yield from _violations(shape.member, item, f"{path}.{number}.member")


def _checked(operation: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Refuse a request that breaks the service's model, before an operation."""

    @functools.wraps(operation)
    def check(self: Any) -> Any:
        shape = _model().operation_model(self._get_action()).input_shape
        problems = list(_violations(shape, json.loads(self.body), ""))
        if problems:
            plural = "s" if len(problems) > 1 else ""
            raise ValidationError(f"{len(problems)} validation error{plural} detected: {'; '.join(problems)}")
        return operation(self)

    return check


class Response(SageMakerResponse):
    """The operations on notebook instances."""

    create_notebook_instance = _checked(SageMakerResponse.create_notebook_instance)
    start_notebook_instance = _checked(SageMakerResponse.start_notebook_instance)
    stop_notebook_instance = _checked(SageMakerResponse.stop_notebook_instance)
    delete_notebook_instance_lifecycle_config = _checked(SageMakerResponse.delete_notebook_instance_lifecycle_config)

    @_checked
    def describe_notebook_instance(self) -> ActionResult:
        """Describe an instance, and let it go on."""
        instance: Any = self.sagemaker_backend.get_notebook_instance(self._get_param("NotebookInstanceName"))
        instance.advance()
        return ActionResult(instance.to_dict())

    @_checked
    def list_notebook_instances(self) -> ActionResult:
        """List the instances, and let each go on."""
        backend: Any = self.sagemaker_backend
        token = self._get_param("NextToken")
        for instance in backend.notebook_instances.values():
            if token is None:
                instance.advance()
        instances, token = backend.list_notebook_instances(
            sort_by=self._get_param("SortBy", "Name"),
            sort_order=self._get_param("SortOrder", "Ascending"),
            name_contains=self._get_param("NameContains"),
            status=self._get_param("StatusEquals"),
            config_contains=self._get_param("NotebookInstanceLifecycleConfigNameContains"),
            max_results=self._get_param("MaxResults"),
            next_token=token,
        )
        return ActionResult({"NotebookInstances": [each.to_dict() for each in instances], "NextToken": token})

    @_checked
    def update_notebook_instance(self) -> ActionResult:
        """Change an instance that does not run."""
        backend: Any = self.sagemaker_backend
        fields = {
            "instance_type": self._get_param("InstanceType"),
            "role_arn": self._get_param("RoleArn"),
            "volume_size_in_gb": self._get_param("VolumeSizeInGB"),
            "root_access": self._get_param("RootAccess"),
        }
        backend.update_notebook_instance(
            self._get_param("NotebookInstanceName"),
            self._get_param("LifecycleConfigName"),
            bool(self._get_param("DisassociateLifecycleConfig")),
            **{name: value for name, value in fields.items() if value is not None},
        )
        return EmptyResult()

    @_checked
    def create_notebook_instance_lifecycle_config(self) -> ActionResult:
        """Create a config with tags."""
        backend: Any = self.sagemaker_backend
        config = backend.create_notebook_instance_lifecycle_config(
            self._get_param("NotebookInstanceLifecycleConfigName"),
            self._get_param("OnCreate"),
            self._get_param("OnStart"),
            self._get_param("Tags"),
        )
        return ActionResult({"NotebookInstanceLifecycleConfigArn": config.arn})

    @_checked
    def update_notebook_instance_lifecycle_config(self) -> ActionResult:
        """Change a config, for every instance that has it."""
        backend: Any = self.sagemaker_backend
        backend.update_lifecycle_config(
            self._get_param("NotebookInstanceLifecycleConfigName"),
            self._get_param("OnCreate"),
            self._get_param("OnStart"),
        )
        return EmptyResult()

    @_checked
    def list_notebook_instance_lifecycle_configs(self) -> ActionResult:
        """List the configs."""
        backend: Any = self.sagemaker_backend
        configs, token = backend.list_lifecycle_configs(
            name_contains=self._get_param("NameContains", ""),
            sort_by=self._get_param("SortBy", "CreationTime"),
            descending=self._get_param("SortOrder", "Descending") == "Descending",
            max_results=self._get_param("MaxResults"),
            next_token=self._get_param("NextToken"),
        )
        summaries = [each.response_object for each in configs]
        return ActionResult({"NotebookInstanceLifecycleConfigs": summaries, "NextToken": token})


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Patch moto."""
    patches = [
        (models, "FakeSagemakerNotebookInstance", Instance),
        (sagemaker_backends, "backend", Backend),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    paths = dict(urls.url_paths)
    sagemaker_backends.clear()
    for owner, name, value in patches:
        setattr(owner, name, value)
    urls.url_paths = dict.fromkeys(paths, Response.dispatch)
    state_manager.register_default_transition(STATES, {"progression": "manual", "times": 2})
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        urls.url_paths = paths
        sagemaker_backends.clear()


@contextlib.contextmanager
def mocked() -> Iterator[None]:
    """moto in this process, with these patches: an account with nothing in it, and the usual speed of its states."""
    with installed(), mock_aws():
        state_manager.unset_transition(STATES)
        try:
            yield
        finally:
            state_manager.unset_transition(STATES)


if __name__ == "__main__":
    with installed():
        moto.server.main()
