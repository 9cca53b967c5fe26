package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

//go:embed static
var static embed.FS

// types has the content type of each kind of file. A file of another kind is a mistake, so that no file is served as a type that a browser guesses.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
}

// file is one file, ready to be sent.
type file struct {
	contentType  string
	plain, small []byte // small is compressed with gzip
}

// Console serves the page and its files. It is an http.Handler for "GET /{$}" and "GET /console/", and may be used by any goroutine.
type Console struct {
	others func() []string
	files  map[string]file // by path
}

// New makes the console. others returns the addresses, host:port, at which coordinators serve HTTP: when this one ends, the page looks there for
// another one. It may return nil.
func New(others func() []string) (*Console, error) {
	names, err := fs.Glob(static, "static/*")
	if err != nil {
		return nil, fmt.Errorf("list the files of the console: %w", err)
	}
	texts, sum := map[string][]byte{}, sha256.New()
	for _, name := range names {
		text, err := static.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read a file of the console: %w", err)
		}
		texts[path.Base(name)] = text
		fmt.Fprintf(sum, "%s %d\n", name, len(text))
		sum.Write(text)
	}
	// The files of one build have a path of their own. So a browser may keep them, and never mixes those of two builds.
	build := hex.EncodeToString(sum.Sum(nil))[:16]
	c := &Console{others: others, files: map[string]file{}}
	var preloads []string
	for name, text := range texts {
		at := "/console/" + build + "/" + name
		switch path.Ext(name) {
		case ".html":
			continue
		case ".js":
			preloads = append(preloads, `<link rel="modulepreload" href="`+strings.TrimPrefix(at, "/")+`">`)
		}
		if c.files[at], err = newFile(name, text); err != nil {
			return nil, err
		}
	}
	slices.Sort(preloads)
	page := strings.ReplaceAll(string(texts["index.html"]), "BUILD", build)
	page = strings.ReplaceAll(page, "PRELOADS", strings.Join(preloads, "\n"))
	if c.files["/"], err = newFile("index.html", []byte(page)); err != nil {
		return nil, err
	}
	return c, nil
}

// newFile makes a file ready to be sent.
func newFile(name string, text []byte) (file, error) {
	contentType, known := types[path.Ext(name)]
	if !known {
		return file{}, fmt.Errorf("the console has a file %s, whose type is not known", name)
	}
	var small bytes.Buffer
	w := gzip.NewWriter(&small)
	if _, err := w.Write(text); err != nil {
		return file{}, fmt.Errorf("compress %s of the console: %w", name, err)
	}
	if err := w.Close(); err != nil {
		return file{}, fmt.Errorf("compress %s of the console: %w", name, err)
	}
	return file{contentType: contentType, plain: text, small: small.Bytes()}, nil
}

// ServeHTTP answers one request. A path that names no file is answered with 404.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := c.files[r.URL.Path]
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	if !ok {
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		http.Error(w, "there is no such file: the console may be of another build now, so load it again", http.StatusNotFound)
		return
	}
	h.Set("Content-Security-Policy", c.policy())
	h.Set("Content-Type", f.contentType)
	h.Set("Vary", "Accept-Encoding")
	if r.URL.Path == "/" {
		h.Set("Cache-Control", "no-cache")
	} else {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	body := f.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.small
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // an error says that the client is gone
	}
}

// policy is the Content-Security-Policy of the page. It may run the scripts of this server and nothing else, make no markup of texts, and
// call this server and the other coordinators.
func (c *Console) policy() string {
	connect := "'self'"
	for _, address := range c.others() {
		if !strings.ContainsAny(address, " ;,'\"\t\r\n/") {
			connect += " http://" + address + "/livez https://" + address + "/livez"
		}
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src " + connect +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
}
