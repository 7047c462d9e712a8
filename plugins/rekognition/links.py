from __future__ import annotations

from airflow.providers.amazon.aws.links.base_aws import BASE_AWS_CONSOLE_LINK, BaseAwsLink


class RekognitionProjectVersionLink(BaseAwsLink):
    """Helper class for constructing Amazon Rekognition Custom Labels model console link."""

    name = "Amazon Rekognition Custom Labels Model"
    key = "rekognition_project_version"
    format_str = (
        BASE_AWS_CONSOLE_LINK
        + "/rekognition/custom-labels?region={region_name}#/projects/{project_name}/models/{version_name}"
    )
