package bench

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// The relay is the limit for BenchmarkCluster: the same bytes go client → relay → echo and back, and the relay does not decode them.
// In /relay neither end decodes them; in /relay-batches both ends read and write batches, as a client and a worker must.

const relayMethod = "/bench.Relay/Stream"

// message is the bytes of a message, which are not decoded.
type message struct{ bytes mem.BufferSlice }

// passThrough is a gRPC codec that passes the bytes of messages on as they are.
type passThrough struct{}

func (passThrough) Name() string { return "passthrough" }

func (passThrough) Marshal(v any) (mem.BufferSlice, error) { return v.(*message).bytes, nil }

func (passThrough) Unmarshal(data mem.BufferSlice, v any) error {
	data.Ref()
	v.(*message).bytes = data
	return nil
}

var _ encoding.CodecV2 = passThrough{}

// serveStream serves one method, a stream that handler handles, until ctx is done.
func serveStream(ctx context.Context, handler grpc.StreamHandler, options ...grpc.ServerOption) error {
	l, err := listen(ctx)
	if err != nil {
		return err
	}
	s, err := serve.NewServer(transport.Config{}, options...)
	if err != nil {
		return err
	}
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "bench.Relay", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
		{StreamName: "Stream", Handler: handler, ServerStreams: true, ClientStreams: true},
	}}, nil)
	context.AfterFunc(ctx, s.Stop)
	return s.Serve(l)
}

// pump sends each message that it receives, until either side ends.
func pump[M any](from interface{ RecvMsg(m any) error }, to interface{ SendMsg(m any) error }) error {
	for {
		m := new(M)
		if err := from.RecvMsg(m); err != nil {
			return err
		}
		if err := to.SendMsg(m); err != nil {
			return err
		}
	}
}

// echo is the role of the process that sends each message back.
func echo(ctx context.Context, _, _ string) error {
	return serveStream(ctx, func(_ any, s grpc.ServerStream) error { return pump[message](s, s) }, grpc.ForceServerCodecV2(passThrough{}))
}

// echoBatches decodes each batch and encodes it again: the least that a process must do that works on rows.
func echoBatches(ctx context.Context, _, _ string) error {
	return serveStream(ctx, func(_ any, s grpc.ServerStream) error { return pump[pb.StreamRequest](s, s) })
}

// relay is the role of the process that passes messages between the client and the echo.
func relay(ctx context.Context, next, _ string) error {
	conn, err := transport.Dial(next, transport.Config{})
	if err != nil {
		return err
	}
	defer conn.Close()
	return serveStream(ctx, func(_ any, s grpc.ServerStream) error {
		down, err := openRelay(s.Context(), conn, grpc.ForceCodecV2(passThrough{}))
		if err != nil {
			return err
		}
		go func() { _ = pump[message](down, s) }() // it ends with the stream
		return pump[message](s, down)
	}, grpc.ForceServerCodecV2(passThrough{}))
}

// openRelay opens a gRPC stream to the process of a relay or an echo.
func openRelay(ctx context.Context, conn *grpc.ClientConn, options ...grpc.CallOption) (grpc.ClientStream, error) {
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	return conn.NewStream(ctx, desc, relayMethod, options...)
}

// benchmarkRelay sends each batch and waits for its echo, with at most underWay batches unanswered. Where batches is set, both ends
// encode and decode batches; otherwise they handle bytes that were encoded before.
func benchmarkRelay(b *testing.B, c batch.Columns, underWay int, batches bool, observe func(i int)) {
	p := &processes{b: b}
	end, options := "echo", []grpc.CallOption{grpc.ForceCodecV2(passThrough{})}
	if batches {
		end, options = "echo-batches", nil
	}
	conn, err := transport.Dial(p.run("relay", p.run(end, "", ""), ""), transport.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	stream, err := openRelay(b.Context(), conn, options...)
	if err != nil {
		b.Fatal(err)
	}
	request := &pb.StreamRequest{Kind: &pb.StreamRequest_Submission{Submission: &pb.Submission{Sequence: 1, Rows: wire.FromColumns(c)}}}
	packed, err := proto.Marshal(request)
	if err != nil {
		b.Fatal(err)
	}
	receive := func() (bytes int, err error) {
		if batches {
			m := new(pb.StreamRequest)
			err := stream.RecvMsg(m)
			return proto.Size(m), err
		}
		var m message
		if err := stream.RecvMsg(&m); err != nil {
			return 0, err
		}
		defer m.bytes.Free()
		return m.bytes.Len(), nil
	}
	send := func() error {
		if batches {
			return stream.SendMsg(request)
		}
		return stream.SendMsg(&message{mem.BufferSlice{mem.SliceBuffer(packed)}})
	}
	slots := make(chan struct{}, underWay)
	failed := make(chan error, 1)
	go func() {
		for i := range b.N {
			got, err := receive()
			if err != nil {
				failed <- err
				return
			}
			if got != len(packed) {
				failed <- fmt.Errorf("the echo has %d bytes of %d", got, len(packed))
				return
			}
			if observe != nil {
				observe(i)
			}
			<-slots
		}
		failed <- nil
	}()
	p.start(b)
	for range b.N {
		slots <- struct{}{}
		if err := send(); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-failed; err != nil {
		b.Fatal(err)
	}
	p.stop(b, b.N*c.Len())
}
