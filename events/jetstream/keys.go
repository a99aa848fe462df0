package jetstream

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nkeys"

	"sallyport.dev/sallyport/events/internal/whole"
)

// Roles of the embedded server. Each has a user of its own in NATS, proved by
// an nkey whose seed stands in Dir/keys/<role>.nk.
const (
	RoleHost     = "host"     // publishes this host's records, reads its own end of the stream
	RoleRecorder = "recorder" // consumes all records, publishes receipts
	RoleSIEM     = "siem"     // reads audit events, never transcripts, publishes nothing
	// RoleApprovals asks this host about approvals and brings decisions, for a page
	// of approvals; it reads and publishes nothing else.
	RoleApprovals = "approvals"
)

// SeedFile returns where a role's seed stands below the server's Dir. The file
// is made with mode 0600 and the daemon's owner; to let another account use a
// role, give it that file and the x permission on the folder, e.g.
// "setfacl -m u:siem:x DIR/keys; setfacl -m u:siem:r DIR/keys/siem.nk".
func SeedFile(dir, role string) string { return filepath.Join(dir, "keys", role+".nk") }

// userKey returns the public key of a role, making its seed when there is none.
func userKey(dir, role string) (string, error) {
	file := SeedFile(dir, role)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return "", fmt.Errorf("jetstream: key folder: %w", err)
	}
	kp, err := readSeed(file)
	if errors.Is(err, fs.ErrNotExist) {
		kp, err = makeSeed(file)
	}
	if err != nil {
		return "", err
	}
	defer kp.Wipe()
	return kp.PublicKey()
}

func readSeed(file string) (nkeys.KeyPair, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("jetstream: nkey seed: %w", err)
	}
	kp, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(b))))
	if err != nil {
		return nil, fmt.Errorf("jetstream: %s holds no nkey seed: %w (remove it to have a new one made)", file, err)
	}
	return kp, nil
}

// makeSeed writes a new seed so that a crash leaves either all of it or nothing.
func makeSeed(file string) (nkeys.KeyPair, error) {
	kp, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	seed, err := kp.Seed()
	if err != nil {
		return nil, err
	}
	if err := whole.Write(file, ".new-", append(seed, '\n')); err != nil {
		return nil, fmt.Errorf("jetstream: nkey seed: %w", err)
	}
	return kp, nil
}
