# Two images: `deployment` (the default) for a real Airflow on containers, `local` with the stand-in for AWS for
# docker-compose.yaml. The slim base has Airflow alone, so that every other package is one of requirements.lock's.
FROM apache/airflow:slim-3.3.2-python3.11 AS pipeline
ENV PYTHONPATH=/opt/airflow
COPY --chown=airflow:0 requirements.txt requirements.lock ./
# Versions come from the lock. The base comes without bytecode: each start of a container would compile Airflow anew.
RUN pip install --no-cache-dir --constraint requirements.lock --requirement requirements.txt \
        apache-airflow-providers-celery asyncpg psycopg2-binary \
    && python -m compileall -q -j 0 "${VIRTUAL_ENV}/lib"
COPY --chown=airflow:0 include include
COPY --chown=airflow:0 plugins plugins
COPY --chown=airflow:0 dags dags
RUN python -m compileall -q include plugins dags

FROM pipeline AS local
RUN pip install --no-cache-dir --constraint requirements.lock "moto[server]" scikit-learn uvicorn
COPY --chown=airflow:0 local_aws local_aws
COPY --chown=airflow:0 local_stack local_stack
# Volumes take the owner of the folder that they are mounted on.
RUN python -m compileall -q local_aws local_stack && mkdir site local-aws-state

# Last, so that `docker build .` makes it.
FROM pipeline AS deployment
