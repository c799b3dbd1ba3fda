-- What a service of this release kept: one event done, one dead, and one that waits.
CREATE TABLE inbox (
    id BIGSERIAL NOT NULL,
    provider TEXT NOT NULL,
    event_id TEXT NOT NULL,
    type TEXT NOT NULL,
    payload BYTEA NOT NULL,
    received_at DOUBLE PRECISION
        DEFAULT CAST(extract(epoch FROM clock_timestamp()) AS double precision) NOT NULL,
    state TEXT DEFAULT 'pending' NOT NULL,
    due_at DOUBLE PRECISION
        DEFAULT CAST(extract(epoch FROM clock_timestamp()) AS double precision),
    attempts INTEGER DEFAULT '0' NOT NULL,
    attempt_limit INTEGER NOT NULL,
    finished_at DOUBLE PRECISION,
    error TEXT,
    PRIMARY KEY (id),
    UNIQUE (event_id, provider),
    CONSTRAINT pending_means_due CHECK ((state = 'pending') = (due_at IS NOT NULL))
);
CREATE INDEX inbox_due ON inbox (due_at) WHERE due_at IS NOT NULL;
INSERT INTO inbox VALUES
    (1, 'stripe', 'evt_done', 'invoice.paid', '{"id": "evt_done", "type": "invoice.paid"}',
     1795000000.5, 'done', NULL, 1, 10, 1795000001.5, NULL),
    (2, 'stripe', 'evt_dead', 'invoice.paid', '{"id": "evt_dead", "type": "invoice.paid"}',
     1795000002.5, 'dead', NULL, 10, 10, 1795000003.5, 'ValueError: no'),
    (3, 'stripe', 'evt_pending', 'invoice.paid', '{"id": "evt_pending", "type": "invoice.paid"}',
     1795000004.5, 'pending', 1795000004.5, 0, 10, NULL, NULL);
SELECT setval('inbox_id_seq', 3);
