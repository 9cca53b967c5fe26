package bench

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// The relay is the limit: the same bytes go client → relay → echo and back, and nobody looks at them.

const relayMethod = "/bench.Relay/Stream"

// message is bytes that nobody looks at.
type message struct{ bytes mem.BufferSlice }

// passThrough hands messages on as they came.
type passThrough struct{}

func (passThrough) Name() string { return "passthrough" }

func (passThrough) Marshal(v any) (mem.BufferSlice, error) { return v.(*message).bytes, nil }

func (passThrough) Unmarshal(data mem.BufferSlice, v any) error {
	data.Ref()
	v.(*message).bytes = data
	return nil
}

var _ encoding.CodecV2 = passThrough{}

func serveStream(ctx context.Context, handler grpc.StreamHandler) error {
	l, err := listen(ctx)
	if err != nil {
		return err
	}
	s, err := transport.NewServer(transport.Config{}, grpc.ForceServerCodecV2(passThrough{}))
	if err != nil {
		return err
	}
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "bench.Relay", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
		{StreamName: "Stream", Handler: handler, ServerStreams: true, ClientStreams: true},
	}}, nil)
	context.AfterFunc(ctx, s.Stop)
	return s.Serve(l)
}

// pump hands on what it receives until either side ends.
func pump(from interface{ RecvMsg(any) error }, to interface{ SendMsg(any) error }) error {
	for {
		var m message
		if err := from.RecvMsg(&m); err != nil {
			return err
		}
		if err := to.SendMsg(&m); err != nil {
			return err
		}
	}
}

func echo(ctx context.Context, _, _ string) error {
	return serveStream(ctx, func(_ any, s grpc.ServerStream) error { return pump(s, s) })
}

func relay(ctx context.Context, next, _ string) error {
	conn, err := transport.Dial(next, transport.Config{})
	if err != nil {
		return err
	}
	defer conn.Close()
	return serveStream(ctx, func(_ any, s grpc.ServerStream) error {
		down, err := openRelay(s.Context(), conn)
		if err != nil {
			return err
		}
		go func() { _ = pump(down, s) }() // ends with the stream
		return pump(s, down)
	})
}

func openRelay(ctx context.Context, conn *grpc.ClientConn) (grpc.ClientStream, error) {
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	return conn.NewStream(ctx, desc, relayMethod, grpc.ForceCodecV2(passThrough{}))
}

// benchmarkRelay sends each batch and waits for its echo, with so many under way.
func benchmarkRelay(b *testing.B, c batch.Columns, underWay int, observe func(i int)) {
	p := &processes{b: b}
	relayed := p.run("relay", p.run("echo", "", ""), "")
	conn, err := transport.Dial(relayed, transport.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	stream, err := openRelay(b.Context(), conn)
	if err != nil {
		b.Fatal(err)
	}
	packed, err := proto.Marshal(wire.FromColumns(c))
	if err != nil {
		b.Fatal(err)
	}
	slots := make(chan struct{}, underWay)
	failed := make(chan error, 1)
	go func() {
		for i := range b.N {
			var m message
			if err := stream.RecvMsg(&m); err != nil {
				failed <- err
				return
			}
			if got := m.bytes.Len(); got != len(packed) {
				failed <- fmt.Errorf("the echo has %d bytes of %d", got, len(packed))
				return
			}
			m.bytes.Free()
			if observe != nil {
				observe(i)
			}
			<-slots
		}
		failed <- nil
	}()
	p.start()
	for range b.N {
		slots <- struct{}{}
		if err := stream.SendMsg(&message{mem.BufferSlice{mem.SliceBuffer(packed)}}); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-failed; err != nil {
		b.Fatal(err)
	}
	p.stop(b.N * c.Len())
}
