# One image for node and worker; docker-compose.yml says which part a container runs.
FROM python:3.11-slim-bookworm

RUN useradd --create-home --uid 10001 secondread \
 && install -d -o secondread -g secondread -m 0700 /data
WORKDIR /opt/secondread

# The locked dependencies first: they change seldom and are large.
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY core core
COPY dicom_node dicom_node
COPY worker worker
COPY models models
COPY review review
COPY cli cli
RUN pip install --no-cache-dir --no-deps .

USER secondread
ENV SECONDREAD_DATA_DIR=/data
VOLUME /data
EXPOSE 11112
ENTRYPOINT ["secondread"]
CMD ["up"]
