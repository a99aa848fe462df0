package transcripts

import (
	"context"
	"errors"
	"fmt"
	"os"

	"filippo.io/age"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/seal"
)

// Config says where transcripts are kept, and for whom they are encrypted.
type Config struct {
	Store string `yaml:"store"` // files (the default), jetstream, s3
	Path  string `yaml:"path"`  // files: the folder; default transcripts in the recorder's store

	JetStream struct {
		Bucket   string `yaml:"bucket"`   // default sallyport-transcripts
		Replicas int    `yaml:"replicas"` // of a bucket that is made; default 1
		// NATS and Key: where it is, and an nkey seed or .creds file; empty: those of
		// the recorder, which readers do not have.
		NATS string        `yaml:"nats"`
		Key  string        `yaml:"nkey"`
		TLS  jetstream.TLS `yaml:"nats_tls"`
	} `yaml:"jetstream"`

	S3 S3 `yaml:"s3"`

	// RecipientsFile lists who can read transcripts, one a line: age1..., ssh-ed25519
	// and ssh-rsa. Empty: they are not encrypted.
	RecipientsFile string `yaml:"recipients_file"`
}

// Mistakes calls bad for each thing that is wrong before anything is opened, with where
// that is: names of members.
func (c *Config) Mistakes(bad func(why string, at ...any)) {
	switch c.Store {
	case "", "files":
	case "jetstream":
		if c.JetStream.NATS == "" {
			bad("jetstream: name the server: nats", "jetstream")
		}
		c.JetStream.TLS.Mistakes(c.JetStream.NATS, func(why string, at ...any) { bad(why, append([]any{"jetstream", "nats_tls"}, at...)...) })
	case "s3":
		if c.S3.Bucket == "" {
			bad("s3: name the bucket", "s3")
		}
	default:
		bad(fmt.Sprintf("store %q: must be files, jetstream or s3", c.Store), "store")
	}
}

// Open opens the store; dir is the folder of one in files that names none. Close
// what it returns when done.
func (c *Config) Open(ctx context.Context, dir string) (Store, func(), error) {
	none := func() {}
	switch c.Store {
	case "", "files":
		if c.Path != "" {
			dir = c.Path
		}
		return OpenFiles(dir), none, nil
	case "s3":
		b, err := OpenS3(ctx, c.S3)
		if err != nil {
			return nil, nil, err
		}
		return b, none, nil
	case "jetstream":
		j := &c.JetStream
		if j.NATS == "" {
			return nil, nil, errors.New("transcripts: jetstream: name the server: nats")
		}
		nc, err := jetstream.Connect(j.NATS, j.Key, j.TLS.Option())
		if err != nil {
			return nil, nil, fmt.Errorf("transcripts: %w", err)
		}
		bucket := j.Bucket
		if bucket == "" {
			bucket = "sallyport-transcripts"
		}
		o, err := OpenObjects(ctx, nc, bucket, j.Replicas)
		if err != nil {
			nc.Close()
			return nil, nil, err
		}
		return o, nc.Close, nil
	}
	return nil, nil, fmt.Errorf("transcripts: store %q: must be files, jetstream or s3", c.Store)
}

// Recipients reads RecipientsFile; nil where none is named.
func (c *Config) Recipients() ([]age.Recipient, error) {
	if c.RecipientsFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(c.RecipientsFile)
	if err != nil {
		return nil, fmt.Errorf("transcripts: recipients_file: %w", err)
	}
	out, err := seal.ParseRecipients(b)
	if err != nil {
		return nil, fmt.Errorf("transcripts: recipients_file %s: %w", c.RecipientsFile, err)
	}
	return out, nil
}
