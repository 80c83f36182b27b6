-- The tables of BatchExportCampaignsOperator, for DuckDB and PostgreSQL. Made from the package's code.
CREATE TABLE IF NOT EXISTS batch_campaigns (
    app TEXT,
    campaign_token TEXT,
    exported_at TIMESTAMPTZ,
    name TEXT,
    live BOOLEAN,
    from_api BOOLEAN,
    dev_only BOOLEAN,
    created_date TEXT,
    push_time TEXT,
    local_push_time TEXT,
    labels TEXT,
    targeting TEXT,
    recurrence TEXT,
    trigger TEXT,
    priority TEXT,
    push_type TEXT,
    time_to_live BIGINT,
    gcm_collapse_key TEXT,
    deeplink TEXT,
    custom_payload TEXT,
    media TEXT,
    extra TEXT
);

CREATE TABLE IF NOT EXISTS batch_messages (
    app TEXT,
    campaign_token TEXT,
    exported_at TIMESTAMPTZ,
    variant TEXT,
    position BIGINT,
    language TEXT,
    title TEXT,
    body TEXT,
    deeplink TEXT,
    extra TEXT
);

CREATE TABLE IF NOT EXISTS batch_stats (
    app TEXT,
    campaign_token TEXT,
    exported_at TIMESTAMPTZ,
    date TEXT,
    variant TEXT,
    sent BIGINT,
    sent_optins BIGINT,
    direct_open BIGINT,
    influenced_open BIGINT,
    reengaged BIGINT,
    errors BIGINT,
    open_rate DOUBLE PRECISION,
    extra TEXT
);
