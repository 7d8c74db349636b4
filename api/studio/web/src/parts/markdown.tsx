import ReactMarkdown from "react-markdown";
import rehypeSanitize from "rehype-sanitize";
import remarkGfm from "remark-gfm";

/** Markdown as text with structure: HTML in it stays text, and nothing is loaded from elsewhere. */
export default function Markdown({ text }: { text: string }) {
  return (
    <ReactMarkdown remarkPlugins={[remarkGfm]} rehypePlugins={[rehypeSanitize]}
      components={{
        a: ({ href, children }) => <a href={href} target="_blank" rel="noreferrer noopener">{children}</a>,
        img: ({ src, alt }) => <code>[image {alt || ""} {String(src ?? "")}]</code>,
      }}>
      {text}
    </ReactMarkdown>
  );
}
