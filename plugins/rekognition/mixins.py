from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.utils.mixins import AwsBaseHookMixin
from airflow.providers.common.compat.sdk import BaseOperatorLink

from rekognition.hooks import RekognitionHook
from rekognition.links import RekognitionProjectVersionLink

if TYPE_CHECKING:
    from airflow.sdk import Context


class RekognitionProjectVersionMixin(AwsBaseHookMixin[RekognitionHook]):
    """What operators and sensor share: the version, its link, and what its triggers need to know."""

    aws_hook_class = RekognitionHook
    operator_extra_links: Collection[BaseOperatorLink] = (RekognitionProjectVersionLink(),)
    ui_color = "#66c3ff"

    project_arn: str
    project_version_arn: str

    @property
    def _version_name(self) -> str:
        return self.hook.parse_project_version_arn(self.project_version_arn).version_name

    @property
    def _trigger_parameters(self) -> dict[str, Any]:
        return {
            "project_arn": self.project_arn,
            "project_version_arn": self.project_version_arn,
            "aws_conn_id": self.aws_conn_id,
            "region_name": self.region_name,
            "verify": self.verify,
            "botocore_config": self.botocore_config,
        }

    def _describe(self) -> dict[str, Any]:
        return self.hook.describe_project_version(self.project_arn, self._version_name)

    def _persist_link(self, context: Context) -> None:
        RekognitionProjectVersionLink.persist(
            context=context,
            operator=self,
            region_name=self.hook.conn_region_name,
            aws_partition=self.hook.conn_partition,
            **self.hook.parse_project_version_arn(self.project_version_arn)._asdict(),
        )
