// Package tlog reads the recorder's transparency log: files of C2SP tlog-tiles
// with signed checkpoints, and the proofs that they give. It knows entries as
// bytes, and nothing of records; events/recorder/follow writes the log.
package tlog

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	fnote "github.com/transparency-dev/formats/note"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"
)

// Keys are whose signatures a checkpoint must have.
type Keys struct {
	Log       string   // verifier key of the log, as sallyport-recorder key --log prints it
	Witnesses []string // verifier keys; each of them must have signed
}

// Checkpoint is a signed state of the log.
type Checkpoint struct {
	Origin string `json:"origin"`
	Size   uint64 `json:"size"` // entries
	Root   string `json:"root"` // hex
	// Signed are the names of those whose signatures were checked.
	Signed []string `json:"signed"`
}

// Log is a folder with a log's files.
type Log struct{ files client.FileFetcher }

// Open returns the log in a folder.
func Open(dir string) *Log { return &Log{client.FileFetcher{Root: dir}} }

// Checkpoint reads the newest checkpoint, which must have been signed by all keys.
func (l *Log) Checkpoint(ctx context.Context, keys Keys) (Checkpoint, []byte, error) {
	raw, err := l.files.ReadCheckpoint(ctx)
	if err != nil {
		return Checkpoint{}, nil, fmt.Errorf("tlog: no checkpoint: %w (is this the folder of the log, and has the recorder run?)", err)
	}
	c, err := ParseCheckpoint(raw, keys)
	return c, raw, err
}

// ParseCheckpoint reads a checkpoint, which must have been signed by all keys.
func ParseCheckpoint(raw []byte, keys Keys) (Checkpoint, error) {
	v, err := note.NewVerifier(strings.TrimSpace(keys.Log))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("tlog: the log's key: %w (print it with: sallyport-recorder key --log)", err)
	}
	var others []note.Verifier
	for _, k := range keys.Witnesses {
		w, err := fnote.NewVerifierForCosignatureV1(strings.TrimSpace(k))
		if err != nil {
			return Checkpoint{}, fmt.Errorf("tlog: a witness's key: %w", err)
		}
		others = append(others, w)
	}
	cp, _, n, err := log.ParseCheckpoint(raw, v.Name(), v, others...)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("tlog: the checkpoint is not signed by the log's key: %w", err)
	}
	out := Checkpoint{Origin: cp.Origin, Size: cp.Size, Root: hex.EncodeToString(cp.Hash)}
	signed := map[string]bool{}
	for _, s := range n.Sigs {
		signed[fmt.Sprint(s.Name, s.Hash)] = true
		out.Signed = append(out.Signed, s.Name)
	}
	for _, w := range others {
		if !signed[fmt.Sprint(w.Name(), w.KeyHash())] {
			return Checkpoint{}, fmt.Errorf("tlog: the checkpoint of %d entries is not signed by the witness %s", cp.Size, w.Name())
		}
	}
	return out, nil
}

// Entries calls f with the entries of a log of a size, in order.
func (l *Log) Entries(ctx context.Context, size uint64, f func(index uint64, entry []byte) error) error {
	for b := uint64(0); b*layout.EntryBundleWidth < size; b++ {
		bundle, err := client.GetEntryBundle(ctx, l.files.ReadEntryBundle, b, size)
		if err != nil {
			return fmt.Errorf("tlog: %w", err)
		}
		for i, e := range bundle.Entries {
			if at := b*layout.EntryBundleWidth + uint64(i); at < size {
				if err := f(at, e); err != nil {
					return err
				}
			}
		}
		if want := min(size-b*layout.EntryBundleWidth, layout.EntryBundleWidth); uint64(len(bundle.Entries)) < want {
			return fmt.Errorf("tlog: bundle %d has %d entries of %d", b, len(bundle.Entries), want)
		}
	}
	return nil
}

// Entry returns one entry of a log of a size.
func (l *Log) Entry(ctx context.Context, index, size uint64) ([]byte, error) {
	bundle, err := client.GetEntryBundle(ctx, l.files.ReadEntryBundle, index/layout.EntryBundleWidth, size)
	if err != nil {
		return nil, fmt.Errorf("tlog: %w", err)
	}
	if i := index % layout.EntryBundleWidth; i < uint64(len(bundle.Entries)) {
		return bundle.Entries[i], nil
	}
	return nil, fmt.Errorf("tlog: entry %d is not in its bundle", index)
}

// Inclusion returns the proof that an entry is in the log of a size.
func (l *Log) Inclusion(ctx context.Context, index, size uint64) ([][]byte, error) {
	b, err := client.NewProofBuilder(ctx, size, l.files.ReadTile)
	if err != nil {
		return nil, fmt.Errorf("tlog: %w", err)
	}
	return b.InclusionProof(ctx, index)
}

// Consistency returns the proof that the log of a size begins with that of a
// smaller one.
func (l *Log) Consistency(ctx context.Context, smaller, size uint64) ([][]byte, error) {
	b, err := client.NewProofBuilder(ctx, size, l.files.ReadTile)
	if err != nil {
		return nil, fmt.Errorf("tlog: %w", err)
	}
	return b.ConsistencyProof(ctx, smaller, size)
}

// CheckInclusion checks that an entry is in the log that a checkpoint signs.
func (c *Checkpoint) CheckInclusion(index uint64, entry []byte, path [][]byte) error {
	root, err := hex.DecodeString(c.Root)
	if err != nil {
		return fmt.Errorf("tlog: root: %w", err)
	}
	return proof.VerifyInclusion(rfc6962.DefaultHasher, index, c.Size, LeafHash(entry), path, root)
}

// CheckConsistency checks that the log that a checkpoint signs begins with that
// of an earlier one.
func (c *Checkpoint) CheckConsistency(earlier Checkpoint, path [][]byte) error {
	now, err := hex.DecodeString(c.Root)
	if err != nil {
		return fmt.Errorf("tlog: root: %w", err)
	}
	then, err := hex.DecodeString(earlier.Root)
	if err != nil {
		return fmt.Errorf("tlog: root: %w", err)
	}
	return proof.VerifyConsistency(rfc6962.DefaultHasher, earlier.Size, c.Size, path, then, now)
}

// LeafHash is the hash of an entry (RFC 6962).
func LeafHash(entry []byte) []byte { return rfc6962.DefaultHasher.HashLeaf(entry) }

// Tree computes the root of entries that are added one after the other.
type Tree struct{ r *compact.Range }

// NewTree returns an empty one.
func NewTree() *Tree {
	return &Tree{(&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)}
}

// Add appends an entry.
func (t *Tree) Add(entry []byte) error { return t.r.Append(LeafHash(entry), nil) }

// Size is how many were added.
func (t *Tree) Size() uint64 { return t.r.End() }

// Root returns the root, hex.
func (t *Tree) Root() (string, error) {
	if t.r.End() == 0 {
		return hex.EncodeToString(rfc6962.DefaultHasher.EmptyRoot()), nil
	}
	h, err := t.r.GetRootHash(nil)
	return hex.EncodeToString(h), err
}

// Signer returns the signer of a log's checkpoints and its verifier key. An empty
// origin is made of the key.
func Signer(key ed25519.PrivateKey, origin string) (note.Signer, string, error) {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, "", errors.New("tlog: not an Ed25519 key")
	}
	if origin == "" {
		origin = "sallyport-recorder/" + hex.EncodeToString(pub[:6])
	}
	v, err := note.NewEd25519VerifierKey(origin, pub)
	if err != nil {
		return nil, "", fmt.Errorf("tlog: %w", err)
	}
	hash := strings.SplitN(strings.TrimPrefix(v, origin+"+"), "+", 2)[0]
	s, err := note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%s+%s", origin, hash, base64.StdEncoding.EncodeToString(append([]byte{1}, key.Seed()...))))
	if err != nil {
		return nil, "", fmt.Errorf("tlog: %w", err)
	}
	return s, v, nil
}

// Copy copies a log's files, those of its state apart, to a folder that is not
// there yet, the checkpoint first: the rest then holds at least what it signs.
func Copy(from, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	b, err := os.ReadFile(from + "/" + layout.CheckpointPath)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to+"/"+layout.CheckpointPath, b, 0o600); err != nil {
		return err
	}
	return os.CopyFS(to+"/tile", os.DirFS(from+"/tile"))
}
