-- What a service of this release kept: one event done, one dead, and one that waits.
CREATE TABLE inbox (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    provider TEXT NOT NULL,
    event_id TEXT NOT NULL,
    type TEXT NOT NULL,
    payload BLOB NOT NULL,
    received_at DOUBLE DEFAULT ((julianday('now') - 2440587.5) * 86400.0) NOT NULL,
    state TEXT DEFAULT 'pending' NOT NULL,
    due_at DOUBLE DEFAULT ((julianday('now') - 2440587.5) * 86400.0),
    attempts INTEGER DEFAULT '0' NOT NULL,
    attempt_limit INTEGER NOT NULL,
    finished_at DOUBLE,
    error TEXT,
    UNIQUE (event_id, provider),
    CONSTRAINT pending_means_due CHECK ((state = 'pending') = (due_at IS NOT NULL))
);
CREATE INDEX inbox_due ON inbox (due_at) WHERE due_at IS NOT NULL;
INSERT INTO inbox VALUES
    (1, 'stripe', 'evt_done', 'invoice.paid', CAST('{"id": "evt_done", "type": "invoice.paid"}' AS BLOB),
     1795000000.5, 'done', NULL, 1, 10, 1795000001.5, NULL),
    (2, 'stripe', 'evt_dead', 'invoice.paid', CAST('{"id": "evt_dead", "type": "invoice.paid"}' AS BLOB),
     1795000002.5, 'dead', NULL, 10, 10, 1795000003.5, 'ValueError: no'),
    (3, 'stripe', 'evt_pending', 'invoice.paid', CAST('{"id": "evt_pending", "type": "invoice.paid"}' AS BLOB),
     1795000004.5, 'pending', 1795000004.5, 0, 10, NULL, NULL);
