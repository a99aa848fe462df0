package transcripts

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
)

// Objects is a Store in an object store of JetStream.
type Objects struct{ in js.ObjectStore }

// OpenObjects returns the store in a bucket, which is made (on file storage, with so
// many replicas) where there is none. A bucket that drops what is old, or keeps
// things in memory, is refused: it would lose bodies.
func OpenObjects(ctx context.Context, nc *nats.Conn, bucket string, replicas int) (*Objects, error) {
	api, err := js.New(nc)
	if err != nil {
		return nil, fmt.Errorf("transcripts: %w", err)
	}
	in, err := api.ObjectStore(ctx, bucket)
	if errors.Is(err, js.ErrBucketNotFound) {
		in, err = api.CreateObjectStore(ctx, js.ObjectStoreConfig{
			Bucket: bucket, Description: "sallyport: transcripts", Storage: js.FileStorage, Replicas: max(replicas, 1),
		})
	}
	if err != nil {
		return nil, fmt.Errorf("transcripts: bucket %s: %w", bucket, err)
	}
	st, err := in.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("transcripts: bucket %s: %w", bucket, err)
	}
	if st.Storage() != js.FileStorage || st.TTL() != 0 || st.Sealed() {
		return nil, fmt.Errorf("transcripts: bucket %s could lose bodies: it must be on file storage, without a TTL and not sealed", bucket)
	}
	return &Objects{in}, nil
}

// Put implements Store. The server has a body when it says so; when that is on its
// disk its own setting sync_interval decides, and its replicas hold it.
func (o *Objects) Put(ctx context.Context, name string, body []byte) error {
	if err := checkPut(name, body); err != nil {
		return err
	}
	if _, err := o.in.PutBytes(ctx, name, body); err != nil {
		return fmt.Errorf("transcripts: %w", err)
	}
	return nil
}

// Get implements Store.
func (o *Objects) Get(ctx context.Context, name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	info, err := o.in.GetInfo(ctx, name)
	if err == nil && info.Size > MaxBody {
		return nil, fmt.Errorf("%w: %s is too large", ErrOdd, name)
	}
	var b []byte
	if err == nil {
		b, err = o.in.GetBytes(ctx, name)
	}
	if errors.Is(err, js.ErrObjectNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNone, name)
	}
	if err != nil {
		return nil, fmt.Errorf("transcripts: %w", err)
	}
	return b, nil
}

// Delete implements Store.
func (o *Objects) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := o.in.Delete(ctx, name); err != nil && !errors.Is(err, js.ErrObjectNotFound) {
		return fmt.Errorf("transcripts: %w", err)
	}
	return nil
}

// List implements Lister.
func (o *Objects) List(ctx context.Context) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		list, err := o.in.List(ctx)
		if errors.Is(err, js.ErrNoObjectsFound) {
			return
		}
		if err != nil {
			yield(Item{}, fmt.Errorf("transcripts: %w", err))
			return
		}
		for _, x := range list {
			if isName(x.Name) && !yield(Item{x.Name, x.ModTime}, nil) {
				return
			}
		}
	}
}
