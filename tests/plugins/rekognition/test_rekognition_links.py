from __future__ import annotations

import pytest

from rekognition.links import RekognitionProjectVersionLink


@pytest.mark.parametrize(
    ("partition", "domain"),
    [("aws", "aws.amazon.com"), ("aws-cn", "amazonaws.cn"), ("aws-us-gov", "amazonaws-us-gov.com")],
)
def test_link_opens_the_model_in_the_console(partition, domain):
    link = RekognitionProjectVersionLink()
    assert (
        link.format_link(
            region_name="eu-west-1",
            aws_domain=link.get_aws_domain(partition),
            project_name="shop",
            version_name="shop.v7",
        )
        == f"https://console.{domain}/rekognition/custom-labels?region=eu-west-1#/projects/shop/models/shop.v7"
    )
