// Package transcripts keeps the bodies of transcripts apart from the records that
// they belong to: in files, in a JetStream object store or in S3-compatible
// storage. So a body can be deleted, and the chain of the records stays.
package transcripts

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// ErrNone says that no body has this name.
var ErrNone = errors.New("transcripts: there is no such body")

// ErrOdd says that what goes by a body's name can be none, or can't be read, though
// the store itself answers.
var ErrOdd = errors.New("transcripts: it is no body")

// Store keeps bodies. A name is 64 hexadecimal digits (small letters) and belongs
// to one body for ever. Methods may be called from many goroutines and processes.
type Store interface {
	// Put keeps a body: when it returns nil the body is on stable storage. To put
	// it again changes nothing, and heals one that was damaged.
	Put(ctx context.Context, name string, body []byte) error
	// Get returns a body as it is stored; errors.Is(err, ErrNone) where there is
	// none, ErrOdd where there is something else. Whoever calls it checks what it got.
	Get(ctx context.Context, name string) ([]byte, error)
	// Delete removes a body. That there is none is no error; that the whole store is
	// not there is one.
	Delete(ctx context.Context, name string) error
}

// Item is a body that a Store has.
type Item struct {
	Name   string
	Stored time.Time
}

// Lister is a Store that can list what it has, in no order. What it has besides
// bodies it leaves out.
type Lister interface {
	List(ctx context.Context) iter.Seq2[Item, error]
}

// MaxBody is the size of the largest body, in bytes.
const MaxBody = 128 << 20

func checkName(name string) error {
	if !isName(name) {
		return fmt.Errorf("transcripts: %q is no name of a body", name)
	}
	return nil
}

// checkPut refuses what Get would not return.
func checkPut(name string, body []byte) error {
	if len(body) > MaxBody {
		return fmt.Errorf("transcripts: %s is too large for a body: %d bytes, of at most %d", name, len(body), MaxBody)
	}
	return checkName(name)
}

func isName(name string) bool {
	if len(name) != 64 {
		return false
	}
	for _, c := range []byte(name) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
