"""A local stand-in for the AWS services that the pipeline uses: one process, one endpoint, no account.

`python -m local_aws --port 4599` serves it; `local_aws.process.LocalAws` starts one for a test. Rekognition Custom
Labels and SQS are answered here, held to botocore's service models; everything else is moto's.
"""
