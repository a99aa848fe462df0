package catalog

import (
	"context"
	"strconv"
	"strings"
)

// marks tell what a catalog holds apart from every other state of it: the versions
// of the rows that are not older than a certain transaction, by the object that they
// belong to, and how many others there are, which can only become fewer.
type marks map[mark]count

type mark struct {
	kind byte // see marksSQL
	key  uint32
}

type count struct {
	n uint32
	h string // a hash, in decimal
}

// The kinds of marks.
const (
	newRows    = 'n' // key: the object
	oldRows    = 'o' // key: a bucket of objects, or systemOID for those of the server
	schemas    = 's' // key: the schema; h is of its name
	collations = 'l' // of all of them
)

const (
	buckets   = 1024
	systemOID = 16384 // from here on objects are not those that the server came with

	// maxNew and maxAge bound how many rows may be new, and for how many
	// transactions, before everything is read again, so that most are old.
	maxNew = 20_000
	maxAge = 1 << 30
	// maxChanged bounds the objects that are read one by one.
	maxChanged = 2000
)

// marksSQL reads marks; {xid} is the transaction since which rows are new. A row of
// pg_attribute or pg_attrdef is deleted only together with another one that counts, or
// replaced by a new one.
const marksSQL = `WITH v(new, oid, x, t) AS (
          SELECT age(xmin) <= age({xid}), oid, xmin, ctid FROM pg_catalog.pg_class
UNION ALL SELECT true, attrelid, xmin, ctid FROM pg_catalog.pg_attribute WHERE age(xmin) <= age({xid}) AND attnum > 0
UNION ALL SELECT true, adrelid, xmin, ctid FROM pg_catalog.pg_attrdef WHERE age(xmin) <= age({xid})
UNION ALL SELECT age(xmin) <= age({xid}), o, xmin, ctid FROM pg_catalog.pg_inherits, unnest(ARRAY[inhrelid, inhparent]) o
UNION ALL SELECT age(xmin) <= age({xid}), ev_class, xmin, ctid FROM pg_catalog.pg_rewrite
UNION ALL SELECT age(xmin) <= age({xid}), oid, xmin, ctid FROM pg_catalog.pg_proc
UNION ALL SELECT age(xmin) <= age({xid}), oid, xmin, ctid FROM pg_catalog.pg_operator
UNION ALL SELECT age(xmin) <= age({xid}), oid, xmin, ctid FROM pg_catalog.pg_cast
UNION ALL SELECT age(xmin) <= age({xid}), 0, xmin, ctid FROM pg_catalog.pg_amop WHERE oid >= 16384
UNION ALL SELECT age(xmin) <= age({xid}), 0, xmin, ctid FROM pg_catalog.pg_amproc WHERE oid >= 16384
UNION ALL SELECT age(xmin) <= age({xid}), 0, xmin, ctid FROM pg_catalog.pg_opclass WHERE oid >= 16384
UNION ALL SELECT age(xmin) <= age({xid}), 0, xmin, ctid FROM pg_catalog.pg_cast WHERE casttarget IN ('pg_catalog.json'::pg_catalog.regtype, 'pg_catalog.text'::pg_catalog.regtype) AND oid >= 16384
UNION ALL SELECT age(xmin) <= age({xid}), oid, xmin, ctid FROM pg_catalog.pg_type
UNION ALL SELECT age(xmin) <= age({xid}), enumtypid, xmin, ctid FROM pg_catalog.pg_enum
UNION ALL SELECT age(xmin) <= age({xid}), conrelid, xmin, ctid FROM pg_catalog.pg_constraint WHERE conrelid <> 0
UNION ALL SELECT age(xmin) <= age({xid}), confrelid, xmin, ctid FROM pg_catalog.pg_constraint WHERE confrelid <> 0
UNION ALL SELECT age(xmin) <= age({xid}), contypid, xmin, ctid FROM pg_catalog.pg_constraint WHERE contypid <> 0
UNION ALL SELECT age(xmin) <= age({xid}), tgrelid, xmin, ctid FROM pg_catalog.pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT age(xmin) <= age({xid}), polrelid, xmin, ctid FROM pg_catalog.pg_policy
UNION ALL SELECT age(xmin) <= age({xid}), indrelid, xmin, ctid FROM pg_catalog.pg_index
UNION ALL SELECT age(xmin) <= age({xid}), partrelid, xmin, ctid FROM pg_catalog.pg_partitioned_table
UNION ALL SELECT age(xmin) <= age({xid}), objid, xmin, ctid FROM pg_catalog.pg_depend WHERE refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
)
SELECT 'n', oid::int8, count(*), sum(hashtextextended(x::text || t::text, 0))::text FROM v WHERE new GROUP BY oid
UNION ALL SELECT 'o', CASE WHEN oid < 16384 THEN 16384::int8 ELSE oid::int8 % 1024 END, count(*), '0' FROM v WHERE NOT new GROUP BY 2
UNION ALL SELECT 's', oid::int8, 1, hashtextextended(nspname, 0)::text FROM pg_catalog.pg_namespace
UNION ALL SELECT 'l', 0, count(*), sum(hashtextextended(oid::text || ' ' || collname || ' ' || collnamespace, 0))::text FROM pg_catalog.pg_collation`

// readMarks reads marks of the rows that are new since a transaction, and how many
// rows that are.
func readMarks(ctx context.Context, c source, since uint32) (m marks, rows int, err error) {
	m = marks{}
	var kind string
	var key uint32
	var n count
	xid := "'" + strconv.FormatUint(uint64(since), 10) + "'::pg_catalog.xid"
	err = c.each(ctx, strings.ReplaceAll(marksSQL, "{xid}", xid), func() {
		m[mark{kind[0], key}] = n
		if kind[0] == newRows {
			rows += int(n.n)
		}
	}, &kind, &key, &n.n, &n.h)
	return m, rows, err
}

// change is what differs between two states of a catalog.
type change struct {
	objects map[uint32]bool
	buckets map[uint32]bool
	all     bool // more than can be told by objects
}

// since returns what has changed since then.
func (m marks) since(then marks) change {
	c := change{objects: map[uint32]bool{}, buckets: map[uint32]bool{}}
	note := func(k mark, replaced bool) {
		switch {
		case k.kind == newRows && k.key >= systemOID:
			c.objects[k.key] = true
		case k.kind == oldRows && k.key < systemOID:
			c.buckets[k.key] = true
		case k.kind == schemas && !replaced: // one that came or went is empty
		default:
			c.all = true
		}
	}
	for k, n := range m {
		if was, ok := then[k]; !ok || was != n {
			note(k, ok)
		}
	}
	for k := range then {
		if _, ok := m[k]; !ok {
			note(k, false)
		}
	}
	return c
}

// touches reports whether an object may have changed.
func (c *change) touches(oid uint32) bool {
	return c.objects[oid] || oid >= systemOID && c.buckets[oid%buckets]
}

// none reports that nothing has changed that the snapshot tells of.
func (c *change) none() bool { return !c.all && len(c.objects)+len(c.buckets) == 0 }
