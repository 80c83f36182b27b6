-- The newest rows of the tables of BatchExportCampaignsOperator, for DuckDB and PostgreSQL.
CREATE OR REPLACE VIEW newest_exports AS
SELECT app, campaign_token, max(exported_at) AS exported_at
FROM batch_campaigns
GROUP BY app, campaign_token;

CREATE OR REPLACE VIEW newest_campaigns AS
SELECT DISTINCT loaded.*
FROM batch_campaigns AS loaded
JOIN newest_exports AS newest
    ON loaded.app IS NOT DISTINCT FROM newest.app
    AND loaded.campaign_token = newest.campaign_token AND loaded.exported_at = newest.exported_at;

CREATE OR REPLACE VIEW newest_messages AS
SELECT DISTINCT loaded.*
FROM batch_messages AS loaded
JOIN newest_exports AS newest
    ON loaded.app IS NOT DISTINCT FROM newest.app
    AND loaded.campaign_token = newest.campaign_token AND loaded.exported_at = newest.exported_at;

CREATE OR REPLACE VIEW newest_stats AS
SELECT DISTINCT loaded.*
FROM batch_stats AS loaded
JOIN (
    SELECT app, campaign_token, date, variant, max(exported_at) AS exported_at
    FROM batch_stats
    GROUP BY app, campaign_token, date, variant
) AS newest
    ON loaded.app IS NOT DISTINCT FROM newest.app AND loaded.date IS NOT DISTINCT FROM newest.date
    AND loaded.campaign_token = newest.campaign_token AND loaded.variant = newest.variant
    AND loaded.exported_at = newest.exported_at;
