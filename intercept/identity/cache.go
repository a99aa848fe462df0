package identity

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const cacheSize = 4096

// cache keeps verified tokens by their hash, so that many connections of one
// workload cost one verification: those that come at once share it too.
type cache struct {
	verifier Verifier
	now      func() time.Time
	flights  singleflight.Group

	mu   sync.Mutex
	kept map[cacheKey]*Token
}

type cacheKey struct {
	issuer string // that the token is held to
	token  [sha256.Size]byte
}

func (c *cache) get(k cacheKey, now time.Time) *Token {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.kept[k]; t != nil && now.Before(t.Fresh) && now.Before(t.Expires) && !now.Before(t.NotBefore) {
		return t
	}
	return nil
}

// verify returns a token that is not older than its verifier lets it be.
func (c *cache) verify(ctx context.Context, raw []byte, issuer string) (*Token, error) {
	sum := sha256.Sum256(raw)
	k := cacheKey{issuer, sum}
	if t := c.get(k, c.now()); t != nil {
		return t, nil
	}
	// Whoever waits has its own patience; the one who asks keeps its own.
	ch := c.flights.DoChan(issuer+"\x00"+string(sum[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		t, err := c.verifier.Verify(ctx, string(raw), issuer)
		if err != nil {
			return nil, err
		}
		t.Sum = sum
		c.keep(k, t)
		return t, nil
	})
	select {
	case r := <-ch:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*Token), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// patience bounds a verification, its issuer's answers included.
const patience = 15 * time.Second

func (c *cache) keep(k cacheKey, t *Token) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.kept) >= cacheSize {
		c.evict(now)
	}
	c.kept[k] = t
}

// evict makes room: all that is over goes, or else an arbitrary one.
func (c *cache) evict(now time.Time) {
	for k, t := range c.kept {
		if !now.Before(t.Fresh) || !now.Before(t.Expires) {
			delete(c.kept, k)
		}
	}
	for k := range c.kept {
		if len(c.kept) < cacheSize {
			return
		}
		delete(c.kept, k)
	}
}
