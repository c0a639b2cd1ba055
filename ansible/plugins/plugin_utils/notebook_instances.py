# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
"""SageMaker's notebook instances, as the inventory `instances` and the module `wave` see and change them.

Sources:
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_NotebookInstanceSummary.html
    https://docs.aws.amazon.com/boto3/latest/guide/retries.html
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.errors import AnsibleError

PAGE = 100  # the largest that the service gives
_THREADS = 8  # more are slowed down by the service; `adaptive` retries then lose none
_NO_REGION = "the AWS region is missing: write `region`, or set AWS_DEFAULT_REGION"
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"}
_DENIED = {"AccessDenied", "AccessDeniedException"}


class NotebookInstances:
    """The notebook instances of one region.

    Args:
        region: The region; by default that of the profile or the environment.
        profile: The profile of AWS's settings.

    Raises:
        AnsibleError: boto3 is missing, the profile does not exist, or there is no region.

    """

    def __init__(self, region: str | None = None, profile: str | None = None) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise AnsibleError(
                f"boto3 is missing in the environment of Ansible ({error}): pip install boto3"
            ) from error
        # Throttled to 10 calls a second, the default retries lost 2 of 150 calls, `adaptive` none.
        retries: Any = {"mode": "adaptive"}
        if "AWS_MAX_ATTEMPTS" not in os.environ:
            retries["max_attempts"] = 10
        settings = Config(retries=retries, max_pool_connections=_THREADS)
        with translated():
            session = boto3.Session(profile_name=profile, region_name=region)
            self._client = session.client("sagemaker", config=settings)
        self.region = str(self._client.meta.region_name)
        if not self.region:  # botocore takes an empty variable for a region
            raise AnsibleError(_NO_REGION)

    def listed(self, **filters: str) -> list[dict[str, Any]]:
        """List instances by pages.

        Args:
            filters: Filters of ListNotebookInstances.

        Raises:
            AnsibleError: AWS refuses, or cannot be reached.

        """
        with translated():
            pages = self._client.get_paginator("list_notebook_instances").paginate(
                **filters, PaginationConfig={"PageSize": PAGE}
            )
            return [instance for page in pages for instance in page["NotebookInstances"]]

    def tags(self, arns: Sequence[str]) -> list[dict[str, str]]:
        """Return the tags of several instances; those of one that was deleted meanwhile are empty.

        Raises:
            AnsibleError: AWS refuses, or cannot be reached.

        """
        with translated(), ThreadPoolExecutor(_THREADS) as threads:
            return list(threads.map(self._tags, arns))

    def _tags(self, arn: str) -> dict[str, str]:
        from botocore.exceptions import ClientError

        pages = self._client.get_paginator("list_tags").paginate(ResourceArn=arn)
        try:
            return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
        except ClientError as error:
            if error.response["Error"]["Code"] in ("ValidationException", "ResourceNotFound"):
                return {}
            raise

    def stop(self, name: str) -> None:
        """Begin to stop an instance.

        Raises:
            AnsibleError: AWS refuses, or cannot be reached.

        """
        with translated():
            self._client.stop_notebook_instance(NotebookInstanceName=name)

    def start(self, name: str) -> None:
        """Begin to start an instance.

        Raises:
            AnsibleError: AWS refuses, or cannot be reached.

        """
        with translated():
            self._client.start_notebook_instance(NotebookInstanceName=name)

    def update(self, name: str, lifecycle_config: str) -> None:
        """Begin to give a stopped instance another lifecycle config.

        Raises:
            AnsibleError: AWS refuses, or cannot be reached.

        """
        with translated():
            self._client.update_notebook_instance(NotebookInstanceName=name, LifecycleConfigName=lifecycle_config)

    def require_config(self, name: str) -> None:
        """Refuse a lifecycle config that does not exist, before an instance is stopped for it.

        Raises:
            AnsibleError: It does not exist, AWS refuses, or cannot be reached.

        """
        with translated():
            self._client.describe_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName=name)

    def failure_reason(self, name: str) -> str:
        """Return AWS's reason why an instance is Failed.

        Raises:
            AnsibleError: AWS refuses, or cannot be reached.

        """
        with translated():
            described = self._client.describe_notebook_instance(NotebookInstanceName=name)
        return str(described.get("FailureReason", ""))


class DeniedError(AnsibleError):
    """The user or role lacks a permission."""


class StateChangedError(AnsibleError):
    """AWS refused a change because the instance is in another state than it was listed with."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn boto3's errors into Ansible's.

    Raises:
        AnsibleError: boto3 raised an error.
        DeniedError: A permission is missing.
        StateChangedError: The error was the state of an instance.

    """
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        action = f"sagemaker:{error.operation_name}"
        if "Unable to transition" in message:
            raise StateChangedError(message) from None
        if code in _DENIED:
            raise DeniedError(f"AWS denies {action}: allow this action to the user or role. {message}") from None
        if code in _EXPIRED:
            raise AnsibleError(f"AWS does not accept the credentials, renew them: {message}") from None
        raise AnsibleError(f"{action} failed: {message} ({code})") from None
    except exceptions.NoRegionError:
        raise AnsibleError(_NO_REGION) from None
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise AnsibleError(f"AWS credentials are missing: write `profile`, or log in ({error})") from None
    except exceptions.BotoCoreError as error:
        raise AnsibleError(f"AWS cannot be asked: {error}") from None
