// Command images builds container images. Each image holds one static Go program and nothing else, as with a FROM scratch Dockerfile. It
// needs neither a Docker daemon nor a network. The same input gives the same digest on every machine and at every time.
//
//	go run ./images -o ../bin/images coordinator=../cmd/coordinator worker=../cmd/worker
//
// For each name and architecture it writes an archive <name>-<architecture>.tar, which `docker load` and `ctr images import` read. For each
// name it prints the digest of the index over all architectures. With -push it also writes that index and its images to a registry.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user is the user and group that the program runs as. It is numeric, so that Kubernetes can see that it is not root, and so that the
// image needs no passwd file.
const user = "65532:65532"

// options are the flags; see run for each of them.
type options struct {
	out, repository, version, revision, source, ldflags string
	architectures                                       []string // such as amd64
	files                                               []string // files to add, as SOURCE:DESTINATION
	push                                                bool
}

// main runs the command until it ends or Ctrl-C is pressed. An error ends it with exit code 1.
func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

// run parses the flags and builds the images that the arguments name.
func run(ctx context.Context, args []string) error {
	var o options
	fs := flag.NewFlagSet("images", flag.ExitOnError)
	fs.Usage = func() {
		fmt.Fprintln(fs.Output(), "usage: images [flags] NAME=PACKAGE ...     PACKAGE: the folder of a main package, or a static program that is built already")
		fs.PrintDefaults()
	}
	fs.StringVar(&o.out, "o", "images", "`folder` for the archives")
	fs.StringVar(&o.repository, "repository", "ghcr.io/kisgrid", "`registry/path` at the beginning of the images' names")
	fs.StringVar(&o.version, "version", "dev", "version of the build, for the tag and a label of the images")
	fs.StringVar(&o.revision, "revision", "", "commit of the build, for a label")
	fs.StringVar(&o.source, "source", "https://github.com/kisgrid/kisgrid", "URL of the source, for a label")
	fs.StringVar(&o.ldflags, "ldflags", "", "further flags for the linker")
	architectures := fs.String("architectures", "amd64,arm64", "`list` of architectures, with commas between them")
	fs.Func("file", "`SOURCE:DESTINATION` of a file to add (repeatable)", func(s string) error {
		o.files = append(o.files, s)
		return nil
	})
	fs.BoolVar(&o.push, "push", false, "write the images to their registry too; docker login stores the credentials for it")
	_ = fs.Parse(args) // exits
	if fs.NArg() == 0 {
		fs.Usage()
		return errors.New("no image is named: give at least one, such as worker=./cmd/worker")
	}
	o.architectures = strings.Split(*architectures, ",")
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	for _, arg := range fs.Args() {
		image, source, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q: write NAME=PACKAGE, such as worker=./cmd/worker", arg)
		}
		if err := o.build(ctx, image, source); err != nil {
			return fmt.Errorf("image %s: %w", image, err)
		}
	}
	return nil
}

// build makes one image for each architecture, writes their archives, and prints the digest of the index over them.
func (o *options) build(ctx context.Context, image, source string) error {
	tag, err := name.NewTag(o.repository + "/" + image + ":" + o.version)
	if err != nil {
		return err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, architecture := range o.architectures {
		program, err := o.program(ctx, image, source, architecture)
		if err != nil {
			return fmt.Errorf("%s: %w", architecture, err)
		}
		built, err := o.image(image, program, architecture)
		if err != nil {
			return fmt.Errorf("%s: %w", architecture, err)
		}
		archive := filepath.Join(o.out, image+"-"+architecture+".tar")
		if err := tarball.WriteToFile(archive, tag, built); err != nil {
			return fmt.Errorf("write %s: %w", archive, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        built,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s@%s\n", tag, digest)
	if !o.push {
		return nil
	}
	return remote.WriteIndex(tag, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
}

// program returns the bytes of the static program. Source is the folder of a package, which is built, or the file of a built program.
func (o *options) program(ctx context.Context, image, source, architecture string) ([]byte, error) {
	if info, err := os.Stat(source); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return os.ReadFile(source)
	}
	dir, err := os.MkdirTemp("", "images-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, image)
	// Without build id, paths and the state of version control in it, two checkouts of one commit give the same bytes.
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid= "+o.ldflags, "-o", out, ".") //nolint:gosec // it builds what it was told to
	build.Dir = source
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+architecture, "GOFLAGS=", "GOWORK=off")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build %s: %w", source, err)
	}
	return os.ReadFile(out)
}

// image makes an image: one layer with the program and the added files, and the configuration that says how to run it.
func (o *options) image(image string, program []byte, architecture string) (v1.Image, error) {
	layer, err := o.layer(image, program)
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	built, err := mutate.Append(base, mutate.Addendum{Layer: layer})
	if err != nil {
		return nil, err
	}
	config, err := built.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	config.Config = v1.Config{
		User: user, Entrypoint: []string{"/" + image}, WorkingDir: "/",
		Labels: map[string]string{
			"org.opencontainers.image.title":    image,
			"org.opencontainers.image.version":  o.version,
			"org.opencontainers.image.revision": o.revision,
			"org.opencontainers.image.source":   o.source,
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	return mutate.ConfigFile(built, config)
}

// layer makes the layer with the program and the added files.
func (o *options) layer(image string, program []byte) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := add(w, image, 0o755, program); err != nil {
		return nil, err
	}
	for _, file := range o.files {
		source, destination, ok := strings.Cut(file, ":")
		if !ok {
			return nil, fmt.Errorf("-file %q: write SOURCE:DESTINATION", file)
		}
		info, err := os.Stat(source)
		if err != nil {
			return nil, err
		}
		content, err := os.ReadFile(source)
		if err != nil {
			return nil, err
		}
		if err := add(w, destination, int64(info.Mode().Perm()), content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
}

// add writes a file into the layer, without owner and time: these would differ from build to build.
func add(w *tar.Writer, destination string, mode int64, content []byte) error {
	header := &tar.Header{Name: strings.TrimPrefix(path.Clean("/"+destination), "/"), Mode: mode, Size: int64(len(content)), Format: tar.FormatPAX}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}
