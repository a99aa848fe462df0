package jetstream

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/events/internal/whole"
)

// Receipt is a recorder's word that it has stored, durably and verified, every
// record of a chain up to Seq, whose hash is Hash.
type Receipt struct {
	Host  string `json:"host"`
	Chain string `json:"chain"`
	Seq   uint64 `json:"seq"`
	Hash  []byte `json:"hash"`
	Sig   []byte `json:"sig"` // Ed25519 over all of the above
}

func (r *Receipt) signed() []byte {
	b := []byte("sallyport receipt v1\n")
	for _, s := range [...]string{r.Host, r.Chain, string(r.Hash)} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return binary.BigEndian.AppendUint64(b, r.Seq)
}

// Verify reports whether key signed the receipt.
func (r *Receipt) Verify(key ed25519.PublicKey) bool {
	return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, r.signed(), r.Sig)
}

func receiptSubject(host string) string { return "sallyport.receipt." + host }

// PublishReceipt signs and publishes a receipt. Nothing waits for it: a lost
// receipt is made up for by the next.
func PublishReceipt(nc *nats.Conn, key ed25519.PrivateKey, r Receipt) error {
	r.Sig = ed25519.Sign(key, r.signed())
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return nc.Publish(receiptSubject(r.Host), b)
}

// ReadPublicKey reads a recorder's public key, as "sallyport-recorder key"
// prints it: PEM, PKIX, Ed25519.
func ReadPublicKey(file string) (ed25519.PublicKey, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("recorder key: %w (print it with sallyport-recorder key)", err)
	}
	if p, _ := pem.Decode(b); p != nil && p.Type == "PUBLIC KEY" {
		if k, err := x509.ParsePKIXPublicKey(p.Bytes); err == nil {
			if k, ok := k.(ed25519.PublicKey); ok {
				return k, nil
			}
		}
	}
	return nil, fmt.Errorf("recorder key: %s holds no Ed25519 PUBLIC KEY in PEM (print it with sallyport-recorder key)", file)
}

// PublicPEM is what ReadPublicKey reads.
func PublicPEM(k ed25519.PublicKey) ([]byte, error) {
	b, err := x509.MarshalPKIXPublicKey(k)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}), err
}

// ReadPrivateKey reads a recorder's private key (PEM, PKCS #8, Ed25519), and
// makes one, mode 0600, where there is none. The folder must exist.
func ReadPrivateKey(file string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return makePrivateKey(file)
	}
	if err != nil {
		return nil, fmt.Errorf("recorder key: %w", err)
	}
	if p, _ := pem.Decode(b); p != nil && p.Type == "PRIVATE KEY" {
		if k, err := x509.ParsePKCS8PrivateKey(p.Bytes); err == nil {
			if k, ok := k.(ed25519.PrivateKey); ok {
				return k, nil
			}
		}
	}
	return nil, fmt.Errorf("recorder key: %s holds no Ed25519 PRIVATE KEY in PEM", file)
}

func makePrivateKey(file string) (ed25519.PrivateKey, error) {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	if err := whole.Write(file, ".new-", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})); err != nil {
		return nil, fmt.Errorf("recorder key: %w", err)
	}
	return k, nil
}
