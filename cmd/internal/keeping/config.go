// Package keeping reads the configuration of the recorder, which says where
// transcripts are and how long they are kept, for the recorder and for readers.
package keeping

import (
	"context"
	"fmt"
	"os"

	"filippo.io/age"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/transcripts"
	"sallyport.dev/sallyport/internal/lined"
)

// Config is the recorder's configuration file. The zero value keeps transcripts in
// files beside the store, unencrypted.
type Config struct {
	Transcripts transcripts.Config `yaml:"transcripts"`
	Retention   recorder.Retention `yaml:"retention"`
}

// Load reads a file; "" is the zero value. Paths are relative to the file.
func Load(file string) (Config, error) {
	var c Config
	if file == "" {
		return c, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return c, fmt.Errorf("the recorder's configuration: %w", err)
	}
	var nothing yaml.Node
	if yaml.Unmarshal(b, &nothing) == nil && nothing.IsZero() {
		return c, nil // comments alone: the zero value
	}
	f, err := lined.Decode(b, file, &c)
	if err != nil {
		return c, err
	}
	c.Retention.Mistakes(func(why string, at ...any) { f.Bad(why, append([]any{"retention"}, at...)...) })
	t := &c.Transcripts
	t.Mistakes(func(why string, at ...any) { f.Bad(why, append([]any{"transcripts"}, at...)...) })
	for _, p := range []*string{&t.Path, &t.RecipientsFile, &t.JetStream.Key, &t.S3.Credentials, &t.S3.CA} {
		f.Resolve(p)
	}
	for _, p := range t.JetStream.TLS.Files() {
		f.Resolve(p)
	}
	return c, f.Err()
}

// Keep has a store, which is in a folder, keep transcripts where the configuration
// says, or find them there. Close what it returns when done.
func (c *Config) Keep(ctx context.Context, s *recorder.DB, dir string, ids []age.Identity) (func(), error) {
	to, err := c.Transcripts.Recipients()
	if err != nil {
		return nil, err
	}
	in, done, err := c.Transcripts.Open(ctx, recorder.TranscriptsFolder(dir))
	if err != nil {
		return nil, err
	}
	s.KeepTranscripts(recorder.Transcripts{Store: in, Recipients: to, Identities: ids})
	return done, nil
}

// Flags of commands that read transcripts.
const (
	configFlag   = "recorder-config"
	identityFlag = "identity-file"
	stateFlag    = "state"
)

// AddFlags adds them to a command and those below it.
func AddFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.String(configFlag, "", "the recorder's configuration file, which says where transcripts are (default: in the store's folder)")
	f.StringArray(identityFlag, nil, "file of age identities, or an SSH key, that opens encrypted transcripts; may be given again")
	f.String(stateFlag, "", "folder of what goes with a store in PostgreSQL: its transcripts, where the configuration names no other place")
	cmd.MarkPersistentFlagDirname(stateFlag)
	cmd.MarkPersistentFlagFilename(configFlag, "yaml")
	cmd.MarkPersistentFlagFilename(identityFlag)
}

// Find has a store that is read, in a folder or with one, find its transcripts as the command's
// flags say, which it may not have. Close what it returns when done.
func Find(ctx context.Context, cmd *cobra.Command, s *recorder.DB, dir string) (func(), error) {
	var file string
	var ids []age.Identity
	if f := cmd.Flags().Lookup(configFlag); f != nil {
		file = f.Value.String()
		files, err := cmd.Flags().GetStringArray(identityFlag)
		if err != nil {
			return nil, err
		}
		for _, name := range files {
			more, err := transcripts.Identities(name)
			if err != nil {
				return nil, err
			}
			ids = append(ids, more...)
		}
	}
	c, err := Load(file)
	if err != nil {
		return nil, err
	}
	c.Transcripts.RecipientsFile = "" // it writes nothing
	if recorder.IsURL(dir) {
		dir = ""
		if f := cmd.Flags().Lookup(stateFlag); f != nil {
			dir = f.Value.String()
		}
		t := &c.Transcripts
		if dir == "" && t.Path == "" && (t.Store == "" || t.Store == "files") {
			return nil, fmt.Errorf("a store in PostgreSQL needs --%s, the folder of its transcripts (that of sallyport-recorder run), or a --%s that names another place", stateFlag, configFlag)
		}
	}
	return c.Keep(ctx, s, dir, ids)
}
