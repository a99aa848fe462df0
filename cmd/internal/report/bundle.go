package report

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// manifest lists the other files of a bundle as sha256sum(1) does.
const manifest = "MANIFEST.sha256"

// Write makes a report and writes its bundle to file, which must not be there
// yet (mode 0600). Nothing is left of one that fails. It returns the report and
// the SHA-256 of the bundle in hex.
func Write(ctx context.Context, s Store, g Given, file string) (_ *Report, sum string, err error) {
	scratch, err := os.MkdirTemp(filepath.Dir(file), ".report-*")
	if err != nil {
		return nil, "", fmt.Errorf("report: %w", err)
	}
	defer os.RemoveAll(scratch)
	log, err := s.Log(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("report: %w", err)
	}
	if log != nil {
		g.Log = &log.State
	}
	p := &proofs{dir: scratch, log: log, files: map[[2]string]*proofFile{}}
	defer p.close()
	r, err := Make(ctx, s, g, p)
	if err != nil {
		return nil, "", err
	}
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, "", fmt.Errorf("report: %w", err)
	}
	defer func() {
		if cerr := out.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("report: %w", cerr)
		}
		if err != nil {
			os.Remove(file)
		}
	}()
	if err := archive(out, r, p); err != nil {
		return nil, "", fmt.Errorf("report: %s: %w", file, err)
	}
	h := sha256.New()
	if _, err = out.Seek(0, io.SeekStart); err == nil {
		_, err = io.Copy(h, out)
	}
	if err = errors.Join(err, out.Sync()); err != nil {
		return nil, "", fmt.Errorf("report: %s: %w", file, err)
	}
	return r, hex.EncodeToString(h.Sum(nil)), nil
}

// form is a file of a bundle that is made from the report.
type form struct {
	name    string
	content []byte
}

// forms makes them; of the same report they are the same, byte by byte.
func forms(r *Report) ([]form, error) {
	machines, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, err
	}
	page, err := HTML(r)
	if err != nil {
		return nil, err
	}
	paper, err := PDF(r)
	if err != nil {
		return nil, err
	}
	return []form{{"report.json", append(machines, '\n')}, {"README.txt", []byte(readme)}, {"report.html", page}, {"report.pdf", paper}}, nil
}

func archive(w io.Writer, r *Report, p *proofs) error {
	z := zip.NewWriter(w)
	var list []string
	add := func(name string, content io.Reader) error {
		f, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: r.Made})
		if err != nil {
			return err
		}
		h := sha256.New()
		if _, err := io.Copy(io.MultiWriter(f, h), content); err != nil {
			return err
		}
		list = append(list, fmt.Sprintf("%x  %s\n", h.Sum(nil), name))
		return nil
	}
	made, err := forms(r)
	if err != nil {
		return err
	}
	for _, c := range made {
		if err := add(c.name, bytes.NewReader(c.content)); err != nil {
			return err
		}
	}
	if p.log != nil {
		if err := add(checkpointFile, bytes.NewReader(p.log.Raw)); err != nil {
			return err
		}
	}
	for _, out := range p.all() {
		if err := out.w.Flush(); err != nil {
			return err
		}
		if _, err := out.f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := add(out.name, out.f); err != nil {
			return err
		}
	}
	slices.Sort(list)
	f, err := z.Create(manifest)
	if err != nil {
		return err
	}
	for _, l := range list {
		if _, err := io.WriteString(f, l); err != nil {
			return err
		}
	}
	return z.Close()
}

const readme = `An auditor's bundle of sallyport

report.html, report.pdf   for people
report.json               the same, and more, for machines
chain/NNN.jsonl           the chain of a host, record by record (report.json says which)
log/NNN.jsonl             where its records stand in the recorder's transparency log
log/checkpoint            what the log has signed
MANIFEST.sha256           SHA-256 of these files

Verify it offline

1. The files are those that were made:

     unzip bundle.zip -d bundle && cd bundle && sha256sum -c MANIFEST.sha256

   The SHA-256 of the whole archive was printed when it was made, and stands on the
   record of the recorder's store (sallyport verify --journal STORE/reads).

2. The report is of the chain, and the chain is whole:

     sallyport report verify bundle.zip

   It recomputes the hash of every record whose content is in the bundle, follows
   each chain from record to record, and makes report.json, report.html, report.pdf
   and this file of them again: they must be the same. It takes the version that made
   the bundle ("program" in report.json).

   With --sha256 HEX the archive must have that SHA-256. Only it covers what the chains
   do not prove: when and by what this was made, what it was asked for, alarms, faults
   and reads, and that nothing was left out together with its content.

   With --log-key FILE (and --witness-key FILE) every record must be in the recorder's
   transparency log, whose checkpoint that key, and each witness's, must have signed;
   with --host-keys FILE every checkpoint of a chain must be signed by its host. Get the
   keys by a way that the recorder's keeper does not control.

   Without sallyport: each line of chain/NNN.jsonl is a record. "prev" must be the
   "hash" of the line before, and "seq" one more. The hash of a line with a "payload" is

     SHA-256( prev[32] | seq u64 | kind u8 | length u32, chain | length u32, protocol
              | length u32, session | length u64, payload )

   with integers in big-endian order; the chain's id is in report.json. Of other lines
   the content is not here (transcripts, and what was not asked for): their hash is
   proved by the line that follows them.

3. The chain is the host's own: records of kind 10 are checkpoints. Their "message" is
   a signed note over a record's number and hash; check it against the host's public
   key, which was kept outside of the host.

4. The records are those that were logged: log/checkpoint is a signed note (C2SP
   tlog-checkpoint). Each line of log/NNN.jsonl is an entry of the log: "path" proves
   (RFC 6962) that "entry", at "index", is in the tree with the root that is signed.
   The "root" of an entry is that of a tree (RFC 6962) over its records, "n" from the
   number "first" on. The leaf of a record is "leaf" in its line of chain/NNN.jsonl, or
   with a "payload"

     SHA-256( 0 u8 | hash[32] | prev[32] | seq u64 | kind u8 | length of payload u64
              | length u32, protocol | length u32, session )

   and "marks" of the entry (base64) has the first four bytes of each record's hash.

5. The chain was not made anew: the last hash of each chain (report.json, "chains") must
   be that of the host's journal, of a receipt, or of an earlier report.

What the report does not say

It tells of what went through sallyport. Of what went round it, it knows the attempts
that the host saw (kind bypass). Statements have no literals and results no rows here:
those are in the transcripts of the recorder's store (sallyport sessions show).
`
