package catalog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// Options say how the side connection is made.
type Options struct {
	// Dial opens a connection to the server.
	Dial           func(ctx context.Context) (net.Conn, error)
	User, Password string
	Database       string
	Timeout        time.Duration // of one reading; default 30 s
	// Before is what an earlier Catalog of the same database knew; see Snapshot.Memory.
	Before Memory
}

// Catalog holds the latest snapshot of one database. It is safe for
// concurrent use; Snapshot never waits.
type Catalog struct {
	o    Options
	last atomic.Pointer[Snapshot]

	mu     sync.Mutex // of what follows
	conn   *pgx.Conn
	looked string // the moment of the latest look; "": looks can't be told apart by it
	marks  marks  // what the latest snapshot was read from; nil: not known
	since  uint32 // the transaction that these go by
	of     string // the database that conn is with; see Snapshot.Of
}

// Open connects and reads the first snapshot.
func Open(ctx context.Context, o Options) (*Catalog, error) {
	if o.Dial == nil || o.User == "" || o.Database == "" {
		return nil, errors.New("catalog: Dial, User and Database are needed")
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	c := &Catalog{o: o}
	if err := c.Refresh(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// versions numbers the snapshots of all catalogs of this process.
var versions atomic.Uint64

// Snapshot returns the latest snapshot; never nil.
func (c *Catalog) Snapshot() *Snapshot { return c.last.Load() }

// Refresh reads the catalog again if it changed.
func (c *Catalog) Refresh(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	fresh := c.conn == nil
	err := c.refresh(ctx)
	if err != nil && !fresh && ctx.Err() == nil {
		// The connection may have been idle for too long: once more.
		c.drop()
		err = c.refresh(ctx)
	}
	if err != nil {
		c.drop()
		return fmt.Errorf("read the catalog of database %q: %w", c.o.Database, err)
	}
	return nil
}

func (c *Catalog) refresh(ctx context.Context) error {
	if c.conn == nil {
		conn, err := Connect(ctx, c.o, "sallyport catalog")
		if err != nil {
			return err
		}
		// It may be another server: everything is read again.
		c.conn, c.marks, c.looked = conn, nil, ""
		if c.of, err = which(ctx, side{conn.PgConn()}); err != nil {
			return err
		}
	}
	db := side{c.conn.PgConn()}
	var now string
	if err := db.each(ctx, momentSQL, func() {}, &now); err != nil {
		return err
	}
	if now != "" && now == c.looked {
		return nil // no transaction has ended since
	}
	// Printed definitions are as of now, not as of the transaction: what changes in
	// between leaves marks too, and is read again next time.
	if err := db.do(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return err
	}
	if err := c.look(ctx, db); err != nil {
		return err // without its connection the transaction is over
	}
	return db.do(ctx, "COMMIT")
}

// look reads what has changed, in a transaction.
func (c *Catalog) look(ctx context.Context, db side) error {
	var looked, at string
	if err := db.each(ctx, momentSQL+", pg_current_snapshot()", func() {}, &looked, &at); err != nil {
		return err
	}
	now, err := parseMoment(at)
	if err != nil {
		return err
	}
	old := c.last.Load()
	if c.marks != nil && int32(now.xid()-c.since) < maxAge {
		m, rows, err := readMarks(ctx, db, c.since)
		if err != nil {
			return err
		}
		ch := m.since(c.marks)
		if ch.none() {
			c.marks, c.looked = m, looked
			return nil
		}
		if !ch.all && rows < maxNew {
			s, same, err := old.readDelta(ctx, db, &ch)
			if err != nil {
				return err
			}
			if s != nil {
				c.store(s, same, now)
				c.marks, c.looked = m, looked
				return nil
			}
		}
	}
	s, err := load(ctx, db)
	if err != nil {
		return err
	}
	m, _, err := readMarks(ctx, db, now.xid())
	if err != nil {
		return err
	}
	s.Database, s.Of = c.o.Database, c.of
	c.store(s, old != nil && old.same(s, nil), now)
	c.marks, c.since, c.looked = m, now.xid(), looked
	return nil
}

// store makes a snapshot the latest; same says that it differs from the one before
// in what passes only.
func (c *Catalog) store(s *Snapshot, same bool, now moment) {
	s.since = now
	if old := c.last.Load(); old != nil {
		s.follow(old)
	} else {
		s.recall(c.o.Before)
	}
	if same {
		s.Version = c.last.Load().Version
	} else {
		s.Version = versions.Add(1)
	}
	c.last.Store(s)
}

func (c *Catalog) drop() {
	if c.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.conn.Close(ctx)
		c.conn = nil
	}
}

// Close ends the side connection.
func (c *Catalog) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop()
	return nil
}
