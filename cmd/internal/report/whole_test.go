package report_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/report"
)

// bundle has a page and a manifest that is right, and what is forged as its first file.
func bundle(t *testing.T, forged string, edit func(*zip.FileHeader)) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	put := func(h *zip.FileHeader, text string) {
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if forged != "" {
		put(&zip.FileHeader{Name: forged, Method: zip.Deflate}, "nothing to see")
	}
	h := &zip.FileHeader{Name: "page", Method: zip.Deflate}
	edit(h)
	put(h, "all of it")
	put(&zip.FileHeader{Name: "MANIFEST.sha256"}, fmt.Sprintf("%x  page\n", sha256.Sum256([]byte("all of it"))))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unlisted takes the first file out of the list of an archive, and leaves it where it is.
func unlisted(b []byte) []byte {
	end := b[len(b)-22:]
	from := int(binary.LittleEndian.Uint32(end[16:]))
	long := 46 + int(binary.LittleEndian.Uint16(b[from+28:])) + int(binary.LittleEndian.Uint16(b[from+30:])) + int(binary.LittleEndian.Uint16(b[from+32:]))
	out := append(bytes.Clone(b[:from]), b[from+long:]...)
	end = out[len(out)-22:]
	for _, at := range []int{8, 10} {
		binary.LittleEndian.PutUint16(end[at:], binary.LittleEndian.Uint16(end[at:])-1)
	}
	binary.LittleEndian.PutUint32(end[12:], binary.LittleEndian.Uint32(end[12:])-uint32(long))
	return out
}

// What a program that unpacks could take for a file of a bundle is one that was held
// against the manifest, by the same name.
func TestArchivesThatReadInTwoWays(t *testing.T) {
	none := func(*zip.FileHeader) {}
	good := bundle(t, "", none)
	commented := append(bytes.Clone(good), "<p>nothing to see</p>"...)
	commented[len(good)-2] = byte(len(commented) - len(good))
	for name, b := range map[string][]byte{
		"a page before it":             append([]byte("<!DOCTYPE html><p>nothing to see</p>"), good...),
		"a page behind it":             commented,
		"a file that is no file":       unlisted(bundle(t, "report.html", none)),
		"another name where it stands": bytes.Replace(good, []byte("page"), []byte("Page"), 1),
		"another name in Unicode": bundle(t, "", func(h *zip.FileHeader) {
			h.Extra = append([]byte{0x75, 0x70, 9, 0, 1, 0, 0, 0, 0}, "evil"...)
		}),
		"a link":    bundle(t, "", func(h *zip.FileHeader) { h.SetMode(fs.ModeSymlink | 0o777) }),
		"a comment": bundle(t, "", func(h *zip.FileHeader) { h.Comment = "look elsewhere" }),
	} {
		if err := check(t, b); err == nil || !strings.Contains(err.Error(), "two ways") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// There is no report in it; as an archive it is right.
	if err := check(t, good); err == nil || !strings.Contains(err.Error(), `"report.json" is missing`) {
		t.Error(err)
	}
}

func check(t *testing.T, b []byte) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "b.zip")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := report.Check(file, "")
	return err
}
