// A SignalR hub on ASP.NET Core, spoken to as `benchmarks.peers.__main__` says.
//
// The bound on messages is raised; all else is as the library has it by default.

using System.Diagnostics;
using System.Text.Json;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.SignalR;

const long MaxSize = 8 * 1024 * 1024;

var builder = WebApplication.CreateBuilder();
builder.Logging.ClearProviders();
builder.WebHost.UseUrls("http://127.0.0.1:0");
builder.Services.AddSignalR(options => options.MaximumReceiveMessageSize = MaxSize);
var app = builder.Build();
app.MapHub<Bench>("/bench");
await app.StartAsync();

var addresses = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!;
Reply(new { ready = $"{addresses.Addresses.First()}/bench" });
while (await Console.In.ReadLineAsync() is { } line)
{
    using var request = JsonDocument.Parse(line);
    if (request.RootElement.GetProperty("tidy").GetBoolean())
    {
        GC.Collect();
    }
    using var process = Process.GetCurrentProcess();
    Reply(new { cpu = process.TotalProcessorTime.TotalSeconds, rss = process.WorkingSet64 });
}
await app.StopAsync();

static void Reply(object answer)
{
    Console.Out.WriteLine(JsonSerializer.Serialize(answer));
    Console.Out.Flush();
}

public record Point(int X, double Y, string Label);

public class Bench : Hub
{
    private static Point At(int number) => new(number, number * 0.5, $"point {number}");

    public Point Echo(Point point) => point;

    public string Text(string value) => value;

    public async IAsyncEnumerable<Point> Items(int n)
    {
        for (var number = 0; number < n; number++)
        {
            yield return At(number);
        }
        await Task.CompletedTask;
    }

    public async IAsyncEnumerable<Point> Yielding(int n)
    {
        for (var number = 0; number < n; number++)
        {
            await Task.Yield();
            yield return At(number);
        }
    }

    public async Task<int> Upload(IAsyncEnumerable<Point> items)
    {
        var count = 0;
        await foreach (var _ in items)
        {
            count++;
        }
        return count;
    }
}
