-- Relations with nothing protected in them, for random statements.
CREATE SCHEMA shop;
CREATE TABLE shop.orders (
    id       int PRIMARY KEY,
    customer text NOT NULL,
    day      date,
    total    numeric(8,2) CHECK (total >= 0),
    paid     boolean DEFAULT false,
    note     text DEFAULT 'none',
    tags     text[],
    data     jsonb,
    UNIQUE (customer, day)
);
CREATE TABLE shop.lines (
    id       int PRIMARY KEY,
    order_id int REFERENCES shop.orders (id) DEFERRABLE INITIALLY DEFERRED,
    item     text,
    amount   int
);
CREATE TABLE shop.events (id int, kind text, day date DEFAULT '2024-01-01', amount int) PARTITION BY RANGE (id);
CREATE TABLE shop.events_1 PARTITION OF shop.events FOR VALUES FROM (MINVALUE) TO (10);
CREATE TABLE shop.events_2 PARTITION OF shop.events FOR VALUES FROM (10) TO (MAXVALUE);
CREATE TABLE shop.base (id int, label varchar(12));
CREATE TABLE shop.derived (extra int) INHERITS (shop.base);
CREATE TABLE shop.notes (id serial PRIMARY KEY, body text, score numeric, doubled numeric GENERATED ALWAYS AS (score * 2) STORED);
CREATE TABLE shop."Odd" (id int, "näme" text);
INSERT INTO shop.orders
SELECT g, (ARRAY['Ann', 'Ben', 'Ünal', 'Zoë'])[1 + g % 4], DATE '2024-01-01' + g, g * 2.5, g % 2 = 0, 'note ' || g, ARRAY['x', 't' || g], jsonb_build_object('k', g, 'l', 'v' || g)
FROM generate_series(1, 9) g;
INSERT INTO shop.orders VALUES (10, '', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO shop.lines SELECT g, 1 + g % 9, 'item ' || g, g % 3 FROM generate_series(1, 12) g;
INSERT INTO shop.events SELECT g, (ARRAY['in', 'out'])[1 + g % 2], DATE '2024-02-01' + g, g FROM generate_series(5, 14) g;
INSERT INTO shop.base SELECT g, 'label ' || g FROM generate_series(1, 4) g;
INSERT INTO shop.derived SELECT g, 'sub ' || g, g FROM generate_series(5, 7) g;
INSERT INTO shop.notes (body, score) VALUES ('first', 1), ('zweite', 2.5), (NULL, NULL);
INSERT INTO shop."Odd" VALUES (1, 'one'), (2, 'zwei');
CREATE VIEW shop.v_orders AS SELECT id, customer, total FROM shop.orders WHERE paid;
CREATE VIEW shop.v_labels AS SELECT id, label FROM shop.base UNION ALL SELECT id, item FROM shop.lines;
CREATE MATERIALIZED VIEW shop.m_orders AS SELECT customer, count(*)::int AS n FROM shop.orders GROUP BY customer;
ANALYZE;
