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
}

// Catalog holds the latest snapshot of one database. It is safe for
// concurrent use; Snapshot never waits.
type Catalog struct {
	o    Options
	last atomic.Pointer[Snapshot]

	mu    sync.Mutex // of what follows
	conn  *pgx.Conn
	print string   // of the row versions
	sum   [32]byte // of the latest snapshot
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
		c.conn = conn
	}
	var print string
	if err := c.conn.QueryRow(ctx, fingerprintSQL).Scan(&print); err != nil {
		return err
	}
	old := c.last.Load()
	if old != nil && print == c.print {
		return nil
	}
	// Printed definitions are as of now, not as of the transaction: what
	// changes in between changes the checksum too, and is read again next time.
	s, err := load(ctx, c.conn)
	if err != nil {
		return err
	}
	sum := s.digest()
	switch {
	case old != nil && sum == c.sum:
		s.Version = old.Version // temporary relations only
	default:
		s.Version = versions.Add(1)
	}
	c.sum = sum
	c.print = print
	c.last.Store(s)
	return nil
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
